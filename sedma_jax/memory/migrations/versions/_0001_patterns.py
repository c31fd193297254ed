"""Version 1: patterns, and the row that numbers the writes."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    store = op.create_table(
        "sedma_store",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    row = {"id": 1, "name": uuid.uuid4().hex, "generation": 0, "deleted": 0, "size": 0}
    op.bulk_insert(store, [row])
    op.create_table(
        "sedma_patterns",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("workload", sa.Text, nullable=False),
        sa.Column("choice", sa.Text, nullable=False),
        sa.Column("features", sa.LargeBinary),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("mean", sa.Double, nullable=False),
        sa.Column("m2", sa.Double, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
    )
    op.create_index("sedma_patterns_lookup", "sedma_patterns", ["kind", "workload"])
    op.create_index("sedma_patterns_generation", "sedma_patterns", ["generation"])
