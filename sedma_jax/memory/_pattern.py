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

from .._tiling.native import real_floats
from ._eviction import joined_value, pattern_value

LONGEST_NAME = 200  # characters of a kind or workload
LONGEST_CHOICE = 2**14  # bytes of canonical JSON
MOST_FEATURES = 256
LARGEST_FEATURE = 1e15  # its square is finite in single precision, as `nearest` needs
LARGEST_REWARD = 1e100  # no sum of squares overflows


@dataclass(frozen=True)
class Pattern:
    """A choice made for a class of workloads, and the rewards it brought.

    - `kind`: what was chosen, e.g. `"partition"`.
    - `workload`: the class of workloads, e.g. `"dense-tall"`.
    - `choice`: what was chosen, as plain JSON. It is a copy: changing it does not change
        the memory.
    - `features`: features of the workload when it was last recorded with any, or None.
    - `count`: how many rewards were measured.
    - `mean`: mean of the rewards, in the unit of whoever recorded them.
    - `spread`: standard deviation of one reward, from `count - 1` degrees of freedom; NaN
        after a single reward.
    - `updated`: when the last reward was recorded, in UTC.
    - `distance`: Euclidean distance of `features` from those asked for, each in units of
        its standard deviation, if the pattern comes from `nearest`; otherwise None.

    **Example:**

        >>> with sj.memory.open("sqlite://") as memory:
        ...     memory.record("tiling", "tall", {"rows": 64}, [1.0, 3.0])
        ...     (pattern,) = memory.recall("tiling", "tall")
        >>> pattern.count, pattern.mean, round(pattern.spread**2, 6)
        (2, 2.0, 2.0)
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
    """A pattern as the database stores it."""

    digest: str  # of kind, workload and choice
    kind: str
    workload: str
    choice: str  # canonical JSON
    features: bytes | None  # float64, little-endian
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    mean: float
    m2: float  # sum of squared deviations from the mean
    updated: int  # microseconds since 1970, UTC
    value: float  # decides who is evicted: see `_eviction.py`


_LATEST = 253_402_300_799_000_000  # microseconds: the end of the year 9999


def stored_row(
    digest: Any,
    kind: Any,
    workload: Any,
    choice: Any,
    features: Any,
    count: Any,
    mean: Any,
    m2: Any,
    updated: Any,
    value: Any,
) -> Row:
    """A row as the database has it, which others than this package may have written.

    **Raises:** `ValueError` for a field that `record` would not have written.
    """
    row = Row(digest, kind, workload, choice, features, count, mean, m2, updated, value)
    text = type(digest) is type(kind) is type(workload) is type(choice) is str
    packed = features is None or (type(features) is bytes and len(features) % 8 == 0)
    whole = type(count) is type(updated) is int and count >= 1 and 0 <= updated <= _LATEST
    real = type(mean) is type(m2) is type(value) is float and abs(mean) <= LARGEST_REWARD
    if not (text and packed and whole and real and 0 <= m2 < math.inf and value == value):
        raise _damaged_row(row)
    return row


def _damaged_row(row: Row) -> ValueError:
    fields = ", ".join(f"{name}={value!r:.40}" for name, value in row._asdict().items())
    return ValueError(
        f"The memory needs rows that `record` wrote. Got a damaged one: {fields}. Delete "
        "it from sedma_patterns by its digest, or restore a copy of the database."
    )


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
    """Check the parts of a pattern, and put them in the form of the database."""
    kind, workload = check_name("kind", kind), check_name("workload", workload)
    text = canonical(choice)
    return Row(
        digest=digest(kind, workload, text),
        kind=kind,
        workload=workload,
        choice=text,
        features=packed_features(features),
        count=count,
        mean=mean,
        m2=m2,
        updated=updated,
        value=pattern_value(count, updated),
    )


def summarise(reward: ArrayLike) -> tuple[int, float, float]:
    """Count, mean and sum of squared deviations of rewards."""
    try:
        rewards = np.atleast_1d(_numbers(reward, "reward"))
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
    """Join two sets of rewards of one pattern; the later features are kept.

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
        value=joined_value(a.value, b.value),
    )


def choice_of(row: Row) -> Any:
    """The choice of a row, read from its JSON.

    **Raises:** `ValueError` for a choice that is not JSON.
    """
    try:
        return json.loads(row.choice)
    except (ValueError, RecursionError):
        raise _damaged_row(row) from None


def as_pattern(row: Row, distance: float | None = None) -> Pattern:
    """The pattern in a row."""
    return Pattern(
        kind=row.kind,
        workload=row.workload,
        choice=choice_of(row),
        features=unpacked_features(row.features),
        count=row.count,
        mean=row.mean,
        spread=math.sqrt(row.m2 / (row.count - 1)) if row.count > 1 else math.nan,
        updated=datetime.fromtimestamp(row.updated / 1e6, UTC),
        distance=distance,
    )


def digest(kind: str, workload: str, choice: str) -> str:
    """The key of a pattern, since PostgreSQL cannot index text as long as a choice."""
    return hashlib.sha256(json.dumps([kind, workload, choice]).encode()).hexdigest()


def canonical(choice: object) -> str:
    """The canonical text of a choice: JSON with sorted keys, no spaces, in ASCII."""
    try:
        text = json.dumps(
            _plain(choice), sort_keys=True, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError, RecursionError):
        text = None
    if text is None or not isinstance(choice, Mapping) or len(text) > LONGEST_CHOICE:
        got = _shown(choice) if text is None else f"{len(text):,} bytes of it"
        raise ValueError(
            "`choice` needs to be a mapping from strings to JSON values, without NaN, of "
            f"at most {LONGEST_CHOICE:,} bytes. Got {got}. "
            "Convert arrays to lists, and keep data out of it."
        )
    return text


def check_name(field: str, name: object) -> str:
    """Refuse a kind or workload that some database or terminal could not hold or show."""
    if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= LONGEST_NAME):
        raise ValueError(
            f"`{field}` needs 1 to {LONGEST_NAME} printable characters. "
            f"Got {_shown(name)}. Use a short name."
        )
    return name


def packed_features(features: object) -> bytes | None:
    """Features as bytes, after a check."""
    if features is None:
        return None
    try:
        values = _numbers(features, "features")
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
    return values.astype("<f8").tobytes()


def _numbers(given: object, name: str) -> np.ndarray:
    """Real numbers in float64; text, masked and complex entries are none."""
    return np.asarray(real_floats(given, name, integers=np.float64), np.float64)


def unpacked_features(features: bytes | None) -> tuple[float, ...] | None:
    """Features as numbers."""
    return None if features is None else tuple(np.frombuffer(features, "<f8").tolist())


def _plain(value: Any) -> Any:
    """Turn tuples into lists; refuse keys other than strings, which JSON would change."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _shown(value: object) -> str:
    # The beginning of a deep or long value, in one line.
    return f"{' '.join(reprlib.repr(value).split()):.80}"
