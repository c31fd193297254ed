"""Who is evicted: the patterns that are worth least, when a memory is full.

The value of a pattern combines recency and frequency as LRFU does (Lee et al. 2001, IEEE
Trans. Comput. 50, 1352): every reward counts 1 when it is measured and half as much each
half-life later. The logarithm of the sum, `log2 sum_i 2^(t_i / h)`, does not depend on the
present, so that it is stored with the pattern. The rewards themselves do not enter: those
of different kinds do not compare, and a choice that pays is made more often.

A full memory loses the least valuable patterns first, but none of the newly written ones
while others are left: a choice tried for the first time would otherwise never enter.
"""

import math

import numpy as np
from sqlalchemy import ColumnElement, Connection, delete, select

from ._schema import patterns

HALF_LIFE = 30 * 86400.0  # seconds in which a use loses half its weight

_BUCKET = (patterns.c.kind, patterns.c.workload)


def pattern_value(count: int, updated: int) -> float:
    """The value of a pattern of which `count` rewards were measured at one time.

    `updated` is that time, in microseconds since 1970.
    """
    return math.log2(count) + updated / 1e6 / HALF_LIFE


def joined_value(a: float, b: float) -> float:
    """The value of a pattern that two sets of rewards make up together."""
    return float(np.logaddexp2(a, b))


def evict(
    connection: Connection, excess: int, generation: int
) -> tuple[set[tuple[str, str]], int]:
    """Delete the `excess` least valuable patterns.

    Those of the write numbered `generation`, the current one, go last. Needs a
    transaction.

    **Returns:** kinds and workloads of what was deleted, and how many patterns that was.
    """
    older = patterns.c.generation < generation
    buckets, evicted = _delete_least_valuable(connection, older, excess)
    if evicted < excess:
        everything = patterns.c.generation <= generation
        more, count = _delete_least_valuable(connection, everything, excess - evicted)
        buckets, evicted = buckets | more, evicted + count
    return buckets, evicted


def beyond_most_valuable(keep: int) -> ColumnElement[bool]:
    """The condition that selects all but the `keep` most valuable patterns."""
    best = select(patterns.c.digest).order_by(patterns.c.value.desc(), patterns.c.digest)
    return patterns.c.digest.not_in(best.limit(keep))


def _delete_least_valuable(
    connection: Connection, chosen: ColumnElement[bool], count: int
) -> tuple[set[tuple[str, str]], int]:
    worst = select(patterns.c.digest).where(chosen)
    worst = worst.order_by(patterns.c.value, patterns.c.digest).limit(count)
    gone = connection.execute(
        delete(patterns).where(patterns.c.digest.in_(worst)).returning(*_BUCKET)
    ).all()
    return {(kind, workload) for kind, workload in gone}, len(gone)
