"""Version 2: the value that decides which patterns are evicted, and the imports."""

import math

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# `sedma_jax.memory._eviction.HALF_LIFE` when this step was written; a step never changes.
_HALF_LIFE = 30 * 86400.0


def upgrade():
    op.create_table(
        "sedma_taken",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
    )
    op.add_column("sedma_patterns", sa.Column("value", sa.Double))
    patterns = sa.table(
        "sedma_patterns", *map(sa.column, ("digest", "count", "updated", "value"))
    )
    connection = op.get_bind()
    rows = connection.execute(
        sa.select(patterns.c.digest, patterns.c.count, patterns.c.updated)
    ).all()
    values = [
        {"key": digest, "new": math.log2(count) + updated / 1e6 / _HALF_LIFE}
        for digest, count, updated in rows
    ]
    if values:
        connection.execute(
            sa.update(patterns)
            .where(patterns.c.digest == sa.bindparam("key"))
            .values(value=sa.bindparam("new")),
            values,
        )
    with op.batch_alter_table("sedma_patterns") as table:
        table.alter_column("value", existing_type=sa.Double, nullable=False)
    op.create_index("sedma_patterns_value", "sedma_patterns", ["value"])
