"""The tables. `migrations/` creates them, and a test compares the two."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

# A table of one row. Every write raises `generation` first, and so waits for the write
# before it: whoever has seen generation g has seen everything written up to it.
store = Table(
    "sedma_store",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(32), nullable=False),  # random, to tell stores apart
    Column("generation", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=False),  # generation of the last deletion
    Column("size", BigInteger, nullable=False),  # number of patterns
)

patterns = Table(
    "sedma_patterns",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("workload", Text, nullable=False),
    Column("choice", Text, nullable=False),
    Column("features", LargeBinary),
    Column("count", BigInteger, nullable=False),
    Column("mean", Double, nullable=False),
    Column("m2", Double, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("value", Double, nullable=False),
    Column("generation", BigInteger, nullable=False),  # of the last write
    Index("sedma_patterns_lookup", "kind", "workload"),
    Index("sedma_patterns_generation", "generation"),
    Index("sedma_patterns_value", "value"),
)

# Other stores whose patterns were imported, and up to which of their generations; and the
# names of calls to `record_all` that may be repeated.
taken = Table(
    "sedma_taken",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("generation", BigInteger, nullable=False),
)
