"""Refuse numbers out of range where a record or a call first meets them, in one line.

Only values that are known are looked at: Python and NumPy numbers, and arrays that are not
traced. Tracers, None and the placeholders that JAX puts into records pass. Records call
`check_numbers` in `__check_init__`, which `jax.tree.map` and `equinox.tree_at` skip.
"""

import operator
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.core
import jax.dtypes
import jax.numpy as jnp
import numpy as np


class Requirement(NamedTuple):
    """What each number needs to be.

    - `holds`: tells it of all entries of an array at once.
    - `text`: the same in words, after "needs `name`".

    **Example:**

        >>> even = sj.kernels.Requirement(lambda v: v % 2 == 0, "to be even")
        >>> sj.kernels.check_numbers("f", even, "Double it.", n=3)
        Traceback (most recent call last):
        ValueError: `f` needs `n` to be even. Got 3. Double it.
    """

    holds: Callable[[np.ndarray], Any]
    text: str


def _finite(v: np.ndarray) -> Any:
    # JAX would turn a larger float64 into infinity. Narrower numbers are widened first,
    # since NumPy would turn the limit into theirs.
    wide = np.abs(v.astype(np.promote_types(v.dtype, float), copy=False))
    return wide <= float(jnp.finfo(jnp.result_type(float)).max)


FINITE = Requirement(_finite, "to be finite")
"""Any finite number."""
POSITIVE = Requirement(lambda v: _finite(v) & (v > 0), "to be positive and finite")
"""A size that is not zero."""
FROM_ZERO = Requirement(lambda v: _finite(v) & (v >= 0), "from 0 up, and finite")
"""A finite size."""
FROM_ONE = Requirement(lambda v: _finite(v) & (v >= 1), "to be at least 1, and finite")
"""A finite size, not below 1."""
ZERO_OR_MORE = Requirement(lambda v: v >= 0, "from 0 up")
"""A size, or infinity."""
ONE_OR_MORE = Requirement(lambda v: v >= 1, "to be at least 1")
"""A size not below 1, or infinity."""
NUMBER = Requirement(lambda v: ~np.isnan(v), "to be a number")
"""Anything but NaN."""
SHARE = Requirement(lambda v: (v >= 0) & (v <= 1), "from 0 to 1")
"""A probability or share."""


def check_numbers(
    call: str,
    requirement: Requirement,
    remedy: str,
    **values: Any,
) -> None:
    """Refuse values of which an entry does not meet the requirement, or is no real number.

    **Arguments:**

    - `call`: the public name that was called.
    - `remedy`: what to do, as a sentence.
    - `values`: by name; None passes.

    **Raises:**

    - `ValueError`: for the first that does not.

    **Example:**

        >>> needs = sj.kernels.POSITIVE
        >>> sj.kernels.check_numbers("f", needs, "It is in volts.", v_read=0.5)
        >>> sj.kernels.check_numbers("f", needs, "It is in volts.", v_read=-0.5)
        Traceback (most recent call last):
        ValueError: `f` needs `v_read` to be positive and finite. Got -0.5. It is in volts.
    """
    for name, value in values.items():
        known = known_numbers(value)
        if known is None:
            continue
        if known.dtype.kind not in "iuf" or not np.all(requirement.holds(known)):
            raise ValueError(
                f"`{call}` needs `{name}` {requirement.text}. Got {shown(value)}. {remedy}"
            )


def check_given(call: str, requirement: Requirement, remedy: str, **values: Any) -> None:
    """`check_numbers`, of arguments that have to be given: None does not pass.

    **Example:**

        >>> sj.kernels.check_given("f", sj.kernels.SHARE, "It is a part.", p=None)
        Traceback (most recent call last):
        ValueError: `f` needs `p` from 0 to 1. Got None. It is a part.
    """
    for name, value in values.items():
        if value is None:
            text = f"`{call}` needs `{name}` {requirement.text}. Got None. {remedy}"
            raise ValueError(text)
    check_numbers(call, requirement, remedy, **values)


def known_numbers(value: Any) -> np.ndarray | None:
    """The entries of a value as an array of NumPy, or None where they are not known.

    What is no number has a dtype of another kind than `i`, `u` or `f`.

    **Example:**

        >>> print(sj.kernels.known_numbers(jnp.array([1.0, 2.5])))
        [1.  2.5]
        >>> traced = jax.jit(lambda v: print(sj.kernels.known_numbers(v)))
        >>> traced(3.0)
        None
    """
    # Fast for what records mostly hold.
    if type(value) is float or type(value) is int:
        return np.asarray(value, float)
    if value is None or isinstance(value, jax.core.Tracer):
        return None
    if isinstance(value, jax.Array):
        if not value.is_fully_addressable or value.is_deleted():
            return None
        if jnp.issubdtype(value.dtype, jax.dtypes.extended):
            return np.empty((), object)  # a key
        value = np.asarray(value)
    if isinstance(value, np.ndarray | np.generic):
        # The dtypes of `ml_dtypes` are of kind "V" or "f".
        narrow = value.dtype.kind == "V" and jnp.issubdtype(value.dtype, np.floating)
        return np.asarray(value, float) if narrow else np.asarray(value)
    if isinstance(value, bool):
        return np.asarray(value)
    if isinstance(value, int | float | Fraction | Decimal):
        return np.asarray(float(value))
    if isinstance(value, str | bytes | complex | list | tuple | dict | set | type):
        return np.empty((), object)
    return None


def check_counts(call: str, least: int, most: float, remedy: str, **values: Any) -> None:
    """Refuse what is no whole number from `least` to `most`, but for traced ones.

    **Raises:**

    - `ValueError`: for the first value that is not one.

    **Example:**

        >>> sj.kernels.check_counts("f", 1, 24, "It is a count.", bits=8)
        >>> sj.kernels.check_counts("f", 1, 24, "It is a count.", bits=2.5)
        Traceback (most recent call last):
        ValueError: `f` needs `bits` from 1 to 24, a whole number. Got 2.5. It is a count.
    """
    for name, value in values.items():
        if isinstance(value, jax.core.Tracer):
            continue
        number = whole(value)
        if number is None or not least <= number <= most:
            text = f"to be at least {least}, a whole number"
            if most < 2**31 - 1:
                text = f"from {least} to {most:,}, a whole number"
            raise ValueError(
                f"`{call}` needs `{name}` {text}. Got {shown(value)}. {remedy}"
            )


def whole(value: Any) -> int | None:
    """A whole number as Python's, or None if it is none; truth values are none.

    **Example:**

        >>> sj.kernels.whole(np.int32(3)), sj.kernels.whole(3.0), sj.kernels.whole(True)
        (3, None, None)
    """
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        return None
    try:
        return operator.index(value)
    except TypeError:  # an array of several, or of another dtype
        return None


def check_kind(
    call: str, kinds: type | tuple[type, ...], wanted: str, remedy: str, **values: Any
) -> None:
    """Refuse objects of another kind.

    **Arguments:**

    - `kinds`: the classes that will do.
    - `wanted`: what they are, after "to be".
    - the others: as in `check_numbers`; but None passes only if it is among the kinds.

    **Raises:**

    - `ValueError`: for the first of another kind.

    **Example:**

        >>> sj.kernels.check_kind("f", sj.Device, "a `Device`", "Such as EPIRAM.", device=3)
        Traceback (most recent call last):
        ValueError: `f` needs `device` to be a `Device`. Got 3. Such as EPIRAM.
    """
    for name, value in values.items():
        if not isinstance(value, kinds):
            raise ValueError(
                f"`{call}` needs `{name}` to be {wanted}. Got {shown(value)}. {remedy}"
            )


def check_callable(call: str, wanted: str, remedy: str, **values: Any) -> None:
    """Refuse what cannot be called, and classes. Tells as `check_kind` does.

    **Example:**

        >>> sj.kernels.check_callable("f", "a function", "Such as `abs`.", g=abs)
        >>> sj.kernels.check_callable("f", "a function", "Such as `abs`.", g="abs")
        Traceback (most recent call last):
        ValueError: `f` needs `g` to be a function. Got 'abs'. Such as `abs`.
    """
    for name, value in values.items():
        if not callable(value) or isinstance(value, type):
            raise ValueError(
                f"`{call}` needs `{name}` to be {wanted}. Got {shown(value)}. {remedy}"
            )


def shown(value: Any) -> str:
    """A value as an error tells it: short, on one line.

    **Example:**

        >>> sj.kernels.shown(np.arange(3.0))
        'an array of shape (3,), dtype float64, from 0 to 2'
    """
    if isinstance(value, type):
        return f"the class `{value.__name__}`"
    if isinstance(value, jax.core.Tracer):
        return f"a traced array of shape {value.shape}"
    if isinstance(value, jax.Array | np.ndarray):
        if value.ndim == 0 and value.dtype.kind in "iufcbOSU":
            return repr(np.asarray(value).item())
        text = f"an array of shape {value.shape}, dtype {value.dtype}"
        return text + _extremes(value)
    if isinstance(value, np.generic):
        return repr(value.item())
    if value is None or isinstance(value, str | bytes | int | float | complex):
        return _short(repr(value))
    if isinstance(value, list | tuple | dict | set):
        inside = value.values() if isinstance(value, dict) else value
        if all(isinstance(v, str | int | float | None) for v in inside):
            return _short(repr(value))
        kinds = ", ".join(type(v).__name__ for v in inside)
        return _short(f"a {type(value).__name__} of {kinds}")
    name = getattr(value, "__qualname__", None)
    return f"`{name}`" if name else f"a `{type(value).__name__}`"


def _extremes(value: Any) -> str:
    known = known_numbers(value)
    if known is None or known.dtype.kind not in "iuf" or not known.size:
        return ""
    if np.isnan(known).any():
        return ", with NaN"
    return f", from {known.min():.4g} to {known.max():.4g}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:77] + "..."


def one_of(call: str, name: str, value: str, known: Iterable[str]) -> str:
    """A name among those known, however it is written; `-` and `_` are the same.

    **Raises:**

    - `ValueError`: if it is not among them.

    **Example:**

        >>> sj.kernels.one_of("f", "device", "EpiRAM", ["epiram", "ag-asi"])
        'epiram'
    """
    plain = lambda text: text.strip().lower().replace("_", "-")
    for candidate in known:
        if plain(candidate) == plain(value):
            return candidate
    raise ValueError(
        f"`{call}` needs `{name}` to be one of {', '.join(known)}. Got {value!r}. "
        "Or pass the object itself."
    )
