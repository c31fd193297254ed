"""What the memory holds: a choice made for a workload, and the reward it brought."""

import hashlib
import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

LONGEST_NAME = 200  # characters of a kind or workload
LONGEST_CHOICE = 2**14  # bytes of canonical JSON
MOST_FEATURES = 256
LARGEST_FEATURE = 1e15  # its square is finite in single precision, as `nearest` needs
LARGEST_REWARD = 1e100  # no sum of squares overflows
HALF_LIFE = 30 * 86400.0  # seconds in which a use loses half its weight


@dataclass(frozen=True)
class Pattern:
    """A choice made for a class of workloads, and the rewards it brought.

    - `kind`: what was chosen, e.g. `"partition"`.
    - `workload`: the class of workloads, e.g. `"dense-tall"`.
    - `choice`: what was chosen, as plain JSON. A copy: changing it changes no memory.
    - `features`: of the workload when last recorded with any, or None.
    - `count`: rewards measured.
    - `mean`: of the rewards, in the unit of whoever recorded them.
    - `spread`: standard deviation of one reward, from `count - 1` degrees of freedom; NaN
        after a single one.
    - `updated`: when the last reward was recorded, in UTC.
    - `distance`: of `features` from those asked for, where `nearest` gave the pattern.
    """

    kind: str
    workload: str
    choice: dict[str, Any]
    features: tuple[float, ...] | None
    count: int
    mean: float
    spread: float
    updated: datetime
    distance: float | None = None


class Row(NamedTuple):
    """A pattern as the database has it."""

    digest: str  # of kind, workload and choice
    kind: str
    workload: str
    choice: str  # canonical JSON
    features: bytes | None  # float64, little-endian
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    mean: float
    m2: float  # sum of squared deviations from the mean
    updated: int  # microseconds since 1970, UTC
    value: float  # see `worth`


def new_row(
    kind: object,
    workload: object,
    choice: object,
    features: object,
    *,
    count: int,
    mean: float,
    m2: float,
    updated: int,
) -> Row:
    """Check what makes up a pattern, and put it in the form of the database."""
    kind, workload = check_name("kind", kind), check_name("workload", workload)
    text = canonical(choice)
    return Row(
        digest(kind, workload, text),
        *(kind, workload, text, packed_features(features)),
        *(count, mean, m2, updated),
        worth(count, updated),
    )


def summarise(reward: ArrayLike) -> tuple[int, float, float]:
    """Count, mean and sum of squared deviations of rewards."""
    try:
        rewards = np.atleast_1d(np.asarray(reward, np.float64))
    except (TypeError, ValueError, OverflowError):
        rewards = np.empty(0)
    if rewards.ndim != 1 or not rewards.size or not np.all(abs(rewards) < LARGEST_REWARD):
        raise ValueError(
            "`record` needs `reward` to be a number or a sequence of at least one, all of "
            f"magnitude below {LARGEST_REWARD:g}. Got {_shown(reward)}. "
            "Leave out what could not be measured."
        )
    mean = float(rewards.mean())
    return rewards.size, mean, float(np.sum((rewards - mean) ** 2))


def merge(a: Row, b: Row) -> Row:
    """Join two sets of rewards of one pattern; the later features count.

    Chan, Golub & LeVeque (1983, Am. Stat. 37, 242) give the moments of the union.
    """
    count = a.count + b.count
    step = b.mean - a.mean
    later, earlier = (b, a) if b.updated >= a.updated else (a, b)
    return a._replace(
        features=later.features or earlier.features,
        count=count,
        mean=a.mean + step * (b.count / count),
        m2=a.m2 + b.m2 + step**2 * (a.count * (b.count / count)),
        updated=later.updated,
        value=float(np.logaddexp2(a.value, b.value)),
    )


def worth(count: int, updated: int) -> float:
    """Value of a pattern of which `count` rewards were measured at one time.

    Every reward counts 1 when it is measured and half as much each half-life later: the
    combined recency and frequency of LRFU (Lee et al. 2001, IEEE Trans. Comput. 50, 1352).
    The logarithm of the sum, `log2 sum_i 2^(t_i / h)`, does not depend on the present, so
    that it is stored, and two values join by `logaddexp2`. Rewards themselves do not
    enter: those of different kinds do not compare, and a choice that pays is made more
    often.
    """
    return math.log2(count) + updated / 1e6 / HALF_LIFE


def as_pattern(row: Row, distance: float | None = None) -> Pattern:
    """The pattern in a row."""
    return Pattern(
        row.kind,
        row.workload,
        json.loads(row.choice),
        unpacked_features(row.features),
        row.count,
        row.mean,
        math.sqrt(row.m2 / (row.count - 1)) if row.count > 1 else math.nan,
        datetime.fromtimestamp(row.updated / 1e6, UTC),
        distance,
    )


def digest(kind: str, workload: str, choice: str) -> str:
    """Key of a pattern: PostgreSQL's indices take no text as long as a choice."""
    return hashlib.sha256(json.dumps([kind, workload, choice]).encode()).hexdigest()


def canonical(choice: object) -> str:
    """The one text of a choice: keys sorted, no spaces, ASCII."""
    try:
        text = json.dumps(
            _plain(choice), sort_keys=True, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError, RecursionError):
        text = None
    if text is None or not isinstance(choice, Mapping) or len(text) > LONGEST_CHOICE:
        got = _shown(choice) if text is None else f"{len(text):,} bytes of it"
        raise ValueError(
            "`choice` needs to be a mapping of strings to what JSON knows, without NaN, of "
            f"at most {LONGEST_CHOICE:,} bytes. Got {got}. "
            "Convert arrays to lists, and keep data out of it."
        )
    return text


def check_name(field: str, name: object) -> str:
    """Refuse a kind or workload that could not be stored or shown everywhere."""
    if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= LONGEST_NAME):
        raise ValueError(
            f"`{field}` needs 1 to {LONGEST_NAME} printable characters. "
            f"Got {_shown(name)}. Use a short name."
        )
    return name


def packed_features(features: object) -> bytes | None:
    """Features as bytes."""
    if features is None:
        return None
    try:
        values = np.asarray(features, "<f8")  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        values = np.empty(0)
    if (
        values.ndim != 1
        or not 1 <= values.size <= MOST_FEATURES
        or not np.all(abs(values) < LARGEST_FEATURE)
    ):
        raise ValueError(
            f"`features` needs 1 to {MOST_FEATURES} numbers of magnitude below "
            f"{LARGEST_FEATURE:g}. Got {_shown(features)}. Scale them, or leave them out."
        )
    return values.tobytes()


def unpacked_features(features: bytes | None) -> tuple[float, ...] | None:
    """Features as numbers."""
    return None if features is None else tuple(np.frombuffer(features, "<f8").tolist())


def _plain(value):
    """Tuples as lists; other keys than strings, which JSON would change, are refused."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _shown(value: object) -> str:
    return f"{reprlib.repr(value):.80}"  # of a deep or long value, its beginning
