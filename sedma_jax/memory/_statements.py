"""The SQL statements of the memory. Each function takes an open connection.

Those that write need a transaction. They raise the generation first: the row that holds
it is locked from then on, so that writers take turns and what they read stays true.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from ._eviction import beyond_most_valuable, evict
from ._lookup_cache import Bucket
from ._pattern import Row, merge, stored_row
from ._schema import patterns, store, taken

_CHUNK = 500  # rows per statement
_ROW = [patterns.c[name] for name in Row._fields]
_ORDER = (patterns.c.kind, patterns.c.workload, patterns.c.mean.desc(), patterns.c.digest)

# Statements of every lookup and record, built once.
_STATE = select(store.c.name, store.c.generation, store.c.deleted, store.c.size)
_BUCKET = (
    select(*_ROW)
    .where(patterns.c.kind == bindparam("k"), patterns.c.workload == bindparam("w"))
    .order_by(*_ORDER)
)
_KNOWN = select(*_ROW).where(patterns.c.digest.in_(bindparam("keys", expanding=True)))
_RAISE = (
    update(store)
    .values(generation=store.c.generation + 1)
    .returning(store.c.generation, store.c.size)
)
_GROW = update(store).values(size=store.c.size + bindparam("by"))


class State(NamedTuple):
    """How far a database has come: see `_schema.py`."""

    name: str
    generation: int
    deleted: int
    size: int


class Written(NamedTuple):
    """What a transaction did."""

    generation: int
    buckets: set[Bucket]  # those it touched
    deleted: int  # number of patterns


def state(connection: Connection) -> State:
    """How far the database has come."""
    return State(*connection.execute(_STATE).one())


def selection(
    kind: str | None = None, workload: str | None = None, choice: str | None = None
) -> ColumnElement[bool]:
    """The condition that selects the patterns which agree with what is given."""
    given = {"kind": kind, "workload": workload, "choice": choice}
    return and_(True, *(patterns.c[n] == v for n, v in given.items() if v is not None))


def bucket_rows(connection: Connection, bucket: Bucket) -> tuple[Row, ...]:
    """The patterns of a kind and workload, the highest mean reward first."""
    kind, workload = bucket
    found = connection.execute(_BUCKET, {"k": kind, "w": workload})
    return tuple(stored_row(*row) for row in found)


def rows(connection: Connection, chosen: ColumnElement[bool]) -> tuple[Row, ...]:
    """The chosen patterns, for each workload the highest mean reward first."""
    found = connection.execute(select(*_ROW).where(chosen).order_by(*_ORDER))
    return tuple(stored_row(*row) for row in found)


def snapshot(connection: Connection) -> tuple[State, tuple[Row, ...]]:
    """How far the database has come, and all its patterns. Needs a transaction."""
    now = State(*connection.execute(_STATE.with_for_update()).one())  # writers wait
    return now, rows(connection, selection())


def touched(connection: Connection, since: int) -> set[Bucket]:
    """The buckets with patterns written after a generation."""
    later = patterns.c.generation > since
    found = connection.execute(
        select(patterns.c.kind, patterns.c.workload).where(later).distinct()
    )
    return {(kind, workload) for kind, workload in found}


def featured(connection: Connection, kind: str, since: int) -> list[Row]:
    """The patterns of a kind that have features and were written after a generation."""
    chosen = (patterns.c.kind == kind) & patterns.c.features.is_not(None)
    chosen &= patterns.c.generation > since
    return [stored_row(*row) for row in connection.execute(select(*_ROW).where(chosen))]


def digests(connection: Connection, kind: str) -> set[str]:
    """The keys of the patterns of a kind."""
    chosen = select(patterns.c.digest).where(patterns.c.kind == kind)
    return set(connection.execute(chosen).scalars())


def write(
    connection: Connection, new: Sequence[Row], capacity: int, once: str | None = None
) -> Written:
    """Merge patterns into those there are; beyond the capacity, evict (`_eviction.py`).

    Under a name in `once` that was used before, nothing is merged.
    """
    generation, size = connection.execute(_RAISE).one()
    if once is not None:
        if taken_generation(connection, once) is not None:
            return Written(generation, set(), 0)
        note_taken(connection, once, generation)
    known = _existing(connection, [row.digest for row in new])
    before = len(known)
    for row in new:
        old = known.get(row.digest)
        known[row.digest] = row if old is None else merge(old, row)
    values = [row._asdict() | {"generation": generation} for row in known.values()]
    if values:
        connection.execute(_UPSERTS[connection.dialect.name], values)
    buckets = {(row.kind, row.workload) for row in new}
    added = len(known) - before
    if added:
        connection.execute(_GROW, {"by": added})
        size += added
    evicted = 0
    if size > capacity:
        lost, evicted = evict(connection, size - capacity, generation)
        buckets |= lost
        _note_deletion(connection, evicted)
    return Written(generation, buckets, evicted)


def remove(connection: Connection, chosen: ColumnElement[bool]) -> Written:
    """Delete the chosen patterns."""
    generation, _ = connection.execute(_RAISE).one()
    gone = connection.execute(
        delete(patterns).where(chosen).returning(patterns.c.kind, patterns.c.workload)
    ).all()
    if gone:
        _note_deletion(connection, len(gone))
    return Written(generation, {(kind, workload) for kind, workload in gone}, len(gone))


def keep_most_valuable(connection: Connection, keep: int) -> Written:
    """Delete all but the most valuable patterns."""
    return remove(connection, beyond_most_valuable(keep))


def taken_generation(connection: Connection, name: str) -> int | None:
    """Up to which of its generations another store was imported; None if never."""
    chosen = select(taken.c.generation).where(taken.c.name == name)
    return connection.execute(chosen).scalar()


def note_taken(connection: Connection, name: str, generation: int) -> None:
    """Note how far another store was imported, in the transaction that imports it."""
    connection.execute(delete(taken).where(taken.c.name == name))
    connection.execute(insert(taken).values(name=name, generation=generation))


def forget_taken(connection: Connection, names: Sequence[str]) -> Written:
    """Forget other stores or calls of these names."""
    generation, _ = connection.execute(_RAISE).one()
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        connection.execute(delete(taken).where(taken.c.name.in_(chunk)))
    return Written(generation, set(), 0)


def _existing(connection: Connection, keys: Sequence[str]) -> dict[str, Row]:
    """The patterns there are of these keys."""
    known = {}
    for start in range(0, len(keys), _CHUNK):
        found = connection.execute(_KNOWN, {"keys": keys[start : start + _CHUNK]})
        known |= {row.digest: row for row in (stored_row(*row) for row in found)}
    return known


def _note_deletion(connection: Connection, count: int) -> None:
    noted = {"size": store.c.size - count, "deleted": store.c.generation}
    connection.execute(update(store).values(**noted))


def _upsert(dialect: Any) -> Any:
    statement = dialect.insert(patterns)
    changed = {
        name: statement.excluded[name]
        for name in ("features", "count", "mean", "m2", "updated", "value", "generation")
    }
    return statement.on_conflict_do_update(index_elements=[patterns.c.digest], set_=changed)


_UPSERTS = {"sqlite": _upsert(sqlite), "postgresql": _upsert(postgresql)}
