"""Refuse finite numbers that the dtype of a computation cannot hold.

Without `jax_enable_x64` JAX turns float64 into float32, in which large numbers are infinite
and, as XLA computes, magnitudes below 1.2e-38 are zero. Numbers that vanish beside larger
ones are a rounding error, and pass; numbers that vanish with all others do not.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np


def check_range(
    values: np.ndarray,
    name: str,
    dtype: Any,
    *,
    axis: int | None = None,
    largest: Callable[[], float] | None = None,
) -> None:
    """Refuse finite numbers that overflow, or whose digits are lost near zero.

    **Arguments:**

    - `name`: what messages call `values`.
    - `dtype`: the floating dtype they are to have.
    - `axis`: along which numbers stand beside each other; None for all of them.
    - `largest`: the largest magnitude of a whole of which `values` are a part; called only
        if numbers of this part vanish.

    **Raises:**

    - `ValueError`: naming the first such number, and how to compute in float64.
    """
    if not values.size or not np.issubdtype(values.dtype, np.floating):
        return
    held = np.finfo(dtype)
    extremes = (f(values, axis=axis, keepdims=True) for f in (np.max, np.min))
    top = np.maximum(*(np.abs(extreme) for extreme in extremes))
    # Nothing is left to find in almost all arrays, at the cost of two passes.
    low = held.tiny / held.eps
    if np.all((top >= low) & (top <= held.max) | (top == 0)):
        return
    size = np.abs(values)
    with np.errstate(over="ignore"):
        bad = np.isinf(size.astype(dtype)) & np.isfinite(size)
    lost = (size < held.tiny) & (size > 0) & (top < low)
    if lost.any() and (largest is None or largest() < low):
        bad |= lost
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"`{name}` needs numbers that {held.dtype} can hold: up to {held.max:.3g}, and "
            f"none below {held.tiny:.3g} where all are small. Got {values[place]} at "
            f"{place}. Rescale it, or compute in float64: "
            "`jax.config.update('jax_enable_x64', True)`, or `--float64` of the tool."
        )


def surely_in_range(values: np.ndarray, dtype: Any, *, vectors: bool = False) -> bool:
    """Whether one pass shows that numbers are finite, and that they pass `check_range`.

    The root of their squares' sum bounds the largest from above, and their root mean square
    from below. False where that says nothing, as of several vectors that differ in size.
    """
    several = vectors and values.ndim > 1 and len(values) > 1
    contiguous = values.flags.c_contiguous or values.flags.f_contiguous
    if several or not contiguous or values.dtype not in (np.float32, np.float64):
        return False
    flat = values.ravel(order="K")
    with np.errstate(all="ignore"):
        root, held = math.sqrt(flat @ flat), np.finfo(dtype)
    return float(held.tiny / held.eps) * math.sqrt(values.size) < root < float(held.max)


def narrowed(values: Any, dtype: Any, name: str) -> Any:
    """An array or a sparse matrix in another dtype, if that can hold its numbers."""
    check_range(values if isinstance(values, np.ndarray) else values.data, name, dtype)
    return values.astype(dtype)
