"""The points of a study: all combinations of values, or draws."""

import itertools
import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from .._keys import check_key
from ..kernels import FINITE, check_counts, check_given, known_numbers, shown

Label = bool | int | float | str | tuple | None
Points = tuple[dict[str, Any], ...]


class Named(eqx.Module):
    """A value of which a table shows a label.

    `grid` and `random` make them of mappings; in points of one's own they stand for devices
    and other values that are no number and no text.

    **Example:**

        >>> points = [{"device": sj.study.Named("mine", sj.devices.EPIRAM)}]
        >>> sj.study.run(lambda device: {"window": device.g_max}, points)[0]["device"]
        'mine'
    """

    label: Label = eqx.field(static=True)
    value: Any


class Range(eqx.Module):
    """Numbers to draw from for `random`, uniform from `low` to `high`.

    - `low`, `high`: the ends, finite.
    - `log`: uniform in the logarithm, of positive ends.

    **Raises:** `ValueError` for other ends.

    **Example:**

        >>> spread = sj.study.Range(1e-3, 1e-1, log=True)
        >>> points = sj.study.random(50, sigma=spread, key=jr.key(0))
        >>> below = sum(point["sigma"] < 1e-2 for point in points)  # half, on average
        >>> 10 < below < 40
        True
    """

    low: float
    high: float
    log: bool = False

    def __check_init__(self):
        call = "sedma_jax.study.Range"
        remedy = "It is an end of the range."
        check_given(call, FINITE, remedy, low=self.low, high=self.high)
        if not self.low < self.high or (self.log and self.low <= 0):
            wanted = "`0 < low < high`" if self.log else "`low < high`"
            raise ValueError(
                f"`{call}` needs {wanted}. Got low={shown(self.low)}, "
                f"high={shown(self.high)}. Are they swapped?"
            )


def grid(**axes: Iterable[Any] | Mapping[Any, Any]) -> Points:
    """All combinations of the values of some parameters; the last changes fastest.

    **Arguments:**

    - `axes`: for each parameter several numbers, truth values, texts, tuples of these, or
        None; or a mapping from labels to values of any kind, such as
        `sedma_jax.devices.PRESETS`.

    **Returns:**

    A tuple of points, each a dictionary. Several join by `+`.

    **Raises:**

    - `ValueError`: if there is no axis, if one is empty or no collection, or has a value
        that needs a label.

    **Example:**

        >>> points = sj.study.grid(size=[32, 64], bits=range(4, 7))
        >>> len(points), points[1]
        (6, {'size': 32, 'bits': 5})
    """
    call = "sedma_jax.study.grid"
    values = {name: _values(call, name, given) for name, given in axes.items()}
    _check_axes(call, values)
    return tuple(
        dict(zip(values, point, strict=True))
        for point in itertools.product(*values.values())
    )


def random(count: int, /, *, key: PRNGKeyArray, **axes: Any) -> Points:
    """Points drawn at random, each parameter by itself.

    **Arguments:**

    - `count`: number of points.
    - `axes`: for each parameter a `Range`, or values as in `grid`, of which each is as
        likely.
    - `key`: typed key. What is drawn for a parameter depends on the key, on its name and on
        `count` alone.

    **Returns:**

    A tuple of points, each a dictionary.

    **Raises:**

    - `ValueError`: as `grid` does; if `count` is below 1.

    **Example:**

        >>> window = sj.study.Range(1e-6, 1e-4, log=True)
        >>> points = sj.study.random(3, bits=[4, 8], g_max=window, key=jr.key(0))
        >>> len(points), all(1e-6 < point["g_max"] < 1e-4 for point in points)
        (3, True)
    """
    call = "sedma_jax.study.random"
    check_key(key)
    check_counts(call, 1, math.inf, "It is the number of points.", count=count)
    drawn = {}
    for name, given in axes.items():
        own = jr.fold_in(key, zlib.crc32(name.encode()))
        if isinstance(given, Range):
            drawn[name] = _draws(given, np.asarray(jr.uniform(own, (count,)), float))
            continue
        values = _values(call, name, given)
        _check_axes(call, {name: values})
        places = np.asarray(jr.randint(own, (count,), 0, len(values)))
        drawn[name] = [values[place] for place in places]
    _check_axes(call, drawn)
    return tuple(
        dict(zip(drawn, point, strict=True)) for point in zip(*drawn.values(), strict=True)
    )


def _draws(given: Range, shares: np.ndarray) -> list[float]:
    low, high = float(given.low), float(given.high)
    if given.log:
        return (low * (high / low) ** shares).tolist()
    return (low + (high - low) * shares).tolist()


def _values(call: str, name: str, given: Any) -> list[Any]:
    """The values of one axis, those of a mapping with their labels."""
    if isinstance(given, Mapping):
        return [Named(_label(call, name, label), v) for label, v in given.items()]
    known = None if isinstance(given, list | tuple | range) else known_numbers(given)
    if known is not None and known.ndim == 1 and known.dtype.kind in "biufU":
        given = known.tolist()
    if isinstance(given, str | bytes | Range) or not isinstance(given, Iterable):
        raise ValueError(
            f"`{call}` needs several values of `{name}`. Got {shown(given)}. Put one value "
            f"into a list, `{name}=[...]`; draw from a `Range` by `sedma_jax.study.random`."
        )
    return [v if isinstance(v, Named) else _label(call, name, v) for v in given]


def _label(call: str, name: str, value: Any) -> Label:
    """A value that a table can show."""
    found = plain(value)
    if found is not value and found is None:
        raise ValueError(
            f"`{call}` needs a label for each `{name}` that is no number and no text. Got "
            f"{shown(value)}. Pass a mapping, `{name}={{'a': ..., 'b': ...}}`."
        )
    return found


def plain(value: Any) -> Label:
    """A value as a table and a file hold it; None for what neither can."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):
        parts = tuple(plain(part) for part in value)
        lost = any(
            new is None and old is not None for new, old in zip(parts, value, strict=True)
        )
        return None if lost else parts
    return value if isinstance(value, bool | int | float | str) else None


def _check_axes(call: str, axes: Mapping[str, list[Any]]) -> None:
    empty = [name for name, values in axes.items() if not values]
    if empty or not axes:
        got = f"none of `{empty[0]}`" if empty else "no parameter"
        raise ValueError(
            f"`{call}` needs parameters with at least one value each. Got {got}. Such as "
            "`bits=[4, 6, 8]`."
        )
