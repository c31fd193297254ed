"""Count in 64 bits where JAX has 32: a whole number as two words."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.dtypes
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Integer, Num, PRNGKeyArray, UInt32
from numpy.lib.mixins import NDArrayOperatorsMixin

from .cipher import folded

# Words are added by halves, since `2**16` halves add up to less than `2**32`.
_HALF, _MOST = 0xFFFF, 2**16
_MOST_FLOAT = np.nextafter(2.0**63, 0)  # of float64
# Of as many floating-point numbers below it the sum is exact, even in single precision.
_PART = 2**12


class Count(NDArrayOperatorsMixin, eqx.Module):
    """Whole numbers from 0 to `2**63 - 1`, exact: `high * 2**32 + low`.

    Where the numbers are known it is used as an array of int64 of NumPy is, exactly:
    `int(count)`, `count > 3`, `np.sum(counts)`, `counts[0]`. To functions of `jax.numpy`,
    and to arithmetic inside `jit`, it is an array of the default floating dtype, or of
    int64 if `jax_enable_x64` is on.

    - `high`, `low`: the words.

    **Example:**

        >>> pulses = sj.kernels.as_count(3_000_000_000)  # more than int32 holds
        >>> print(pulses, pulses + pulses)
        3000000000 6000000000
    """

    high: UInt32[Array, "*shape"]
    low: UInt32[Array, "*shape"]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.low.shape

    @property
    def ndim(self) -> int:
        return self.low.ndim

    @property
    def size(self) -> int:
        return self.low.size

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int64)

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, place: Any) -> "Count":
        return Count(self.high[place], self.low[place])

    def __iter__(self) -> Iterator["Count"]:
        # JAX clips places beyond the end, so that Python's own way would never stop.
        return (self[place] for place in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        high = np.asarray(self.high).astype(np.int64)
        wide = np.asarray((high << 32) | np.asarray(self.low).astype(np.int64))
        return wide if dtype is None else wide.astype(dtype)

    def __jax_array__(self) -> Array:
        if jax.dtypes.canonicalize_dtype(np.int64) == np.int64:
            return (self.high.astype(jnp.int64) << 32) | self.low.astype(jnp.int64)
        dtype = jnp.result_type(float)
        return self.high.astype(dtype) * dtype.type(2.0**32) + self.low.astype(dtype)

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any):
        if any(_traced(value) for value in inputs):
            if method != "__call__":
                return NotImplemented
            return getattr(jnp, function.__name__)(*map(jnp.asarray, inputs), **options)
        known = [np.asarray(v) if isinstance(v, Count) else v for v in inputs]
        return getattr(function, method)(*known, **options)

    def __int__(self) -> int:
        return int(np.asarray(self))

    def __index__(self) -> int:
        return int(self)

    def __float__(self) -> float:
        return float(np.asarray(self))

    def __bool__(self) -> bool:
        return bool(np.asarray(self))

    def __format__(self, how: str) -> str:
        return format(np.asarray(self)[()], how)

    def __repr__(self) -> str:
        return f"Count{self.low.shape}" if _traced(self) else str(np.asarray(self))

    def item(self) -> int:
        return int(self)

    def tolist(self) -> Any:
        return np.asarray(self).tolist()

    def astype(self, dtype: Any) -> Any:
        return (jnp.asarray(self) if _traced(self) else np.asarray(self)).astype(dtype)


def _traced(value: Any) -> bool:
    leaf = value.low if isinstance(value, Count) else value
    return isinstance(leaf, jax.core.Tracer)


def as_count(values: Any) -> Count:
    """Whole numbers as a `Count`: integers of any width, or floating ones.

    Negative numbers count as 0, and floating ones above `2**63 - 1` as that or little less.

    **Example:**

        >>> sj.kernels.as_count(np.array([5, -1, 2**40])).tolist()
        [5, 0, 1099511627776]
    """
    if isinstance(values, Count):
        return values
    if not isinstance(values, jax.Array):
        whole = np.asarray(values)
        if np.issubdtype(whole.dtype, np.floating):
            whole = np.clip(whole.astype(np.float64), 0, _MOST_FLOAT)
        whole = np.maximum(whole.astype(np.int64), 0)
        words = (whole >> 32, whole & 0xFFFFFFFF)
        # `jnp.asarray` would compile a copy for each shape.
        return Count(*(jax.device_put(w.astype(np.uint32)) for w in words))
    if not jnp.issubdtype(values.dtype, jnp.floating):
        whole = jnp.maximum(values, 0)
        high = jnp.zeros(whole.shape, jnp.uint32)
        if whole.dtype.itemsize == 8:
            high = (whole >> 32).astype(jnp.uint32)
        return Count(high, whole.astype(jnp.uint32))
    # Both steps are exact in binary floating point.
    whole = jnp.clip(values, 0, np.nextafter(values.dtype.type(2.0**63), 0))
    high = jnp.floor(whole * 2.0**-32)
    low = whole - high * 2.0**32
    return Count(high.astype(jnp.uint32), low.astype(jnp.uint32))


def add_counts(a: Count, b: Count) -> Count:
    """The sum of two counts, entry by entry.

    **Example:**

        >>> a, b = sj.kernels.as_count(2**32 - 1), sj.kernels.as_count(1)
        >>> int(sj.kernels.add_counts(a, b)) == 2**32
        True
    """
    low = a.low + b.low
    carry = (low < a.low).astype(jnp.uint32)
    return Count(a.high + b.high + carry, low)


def total_count(
    values: Count | Num[Array, "*shape"],
    axes: tuple[int, ...] | None = None,
) -> Count:
    """The sum of counts over `axes`, or over all, to 64 bits.

    **Example:**

        >>> int(sj.kernels.total_count(jnp.array([[1, 2], [3, 4]])))
        10
    """
    count = as_count(values)
    axes = tuple(range(count.ndim)) if axes is None else axes
    for axis in sorted((axis % count.ndim for axis in axes), reverse=True):
        count = jax.tree.map(lambda w, axis=axis: jnp.moveaxis(w, axis, -1), count)
        while (size := count.shape[-1]) > _MOST:
            cut = lambda w, pad=-size % _MOST: jnp.pad(
                w, [(0, 0)] * (w.ndim - 1) + [(0, pad)]
            ).reshape(*w.shape[:-1], -1, _MOST)
            count = _last_axis(jax.tree.map(cut, count))
        count = _last_axis(count)
    return count


def _last_axis(count: Count) -> Count:
    add = lambda word: jnp.sum(word, axis=-1, dtype=jnp.uint32)
    low, carry = add(count.low & _HALF), add(count.low >> 16)
    carry = carry + (low >> 16)
    high, top = add(count.high & _HALF), add(count.high >> 16)
    high = high + (carry >> 16)
    top = top + (high >> 16)
    return Count((top << 16) | (high & _HALF), (carry << 16) | (low & _HALF))


def row_counts(values: Float[Array, "arrays rows lanes"]) -> Count:
    """The sum of each row of whole numbers, exact as far as these are.

    XLA on CPUs has a library for sums of floating-point numbers, where it compiles several
    kernels for each sum of integers. So this adds up parts below and above `2**12`, whose
    sums are exact.
    """
    arrays, rows, lanes = values.shape
    parts = jnp.pad(values, ((0, 0), (0, 0), (0, -lanes % min(lanes, _PART))))
    parts = parts.reshape(arrays, rows, -1, min(lanes, _PART))
    high = jnp.floor(parts / _PART)
    low = as_count(jnp.sum(parts - high * _PART, axis=3))
    high = as_count(jnp.sum(high, axis=3))
    high = Count((high.high << 12) | (high.low >> 20), high.low << 12)  # times `_PART`
    counts = add_counts(low, high)
    if lanes <= _PART:
        return jax.tree.map(lambda word: word[..., 0], counts)
    return total_count(counts, (2,))


def multiply_count(values: Integer[Array, "*shape"], factor: int) -> Count:
    """Numbers below `2**32` times one such number, to 64 bits.

    **Example:**

        >>> places = jnp.array([3, 4], jnp.uint32)
        >>> sj.kernels.multiply_count(places, 1_000_000_000)
        [3000000000 4000000000]
    """
    a, b = values.astype(jnp.uint32), factor
    a, b = (a & _HALF, a >> 16), (b & _HALF, b >> 16)
    least, left, right, most = a[0] * b[0], a[0] * b[1], a[1] * b[0], a[1] * b[1]
    middle = (least >> 16) + (left & _HALF) + (right & _HALF)
    high = most + (left >> 16) + (right >> 16) + (middle >> 16)
    return Count(high, (middle << 16) | (least & _HALF))


def fold_in_count(key: PRNGKeyArray, place: Count) -> PRNGKeyArray:
    """`jax.random.fold_in` for a place of 64 bits: the same below `2**32`.

    **Example:**

        >>> place = sj.kernels.as_count(7)
        >>> bool(sj.kernels.fold_in_count(jr.key(0), place) == jr.fold_in(jr.key(0), 7))
        True
    """
    low = folded(key, place.low)
    # Words of the keys, as typed keys know no `where` on every version of JAX.
    data = jr.key_data(folded(low, place.high))
    data = jnp.where(place.high == 0, jr.key_data(low), data)
    return jr.wrap_key_data(data, impl=jr.key_impl(key))
