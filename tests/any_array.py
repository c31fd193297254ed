"""Arrays as users have them: of any dtype, byte order, layout, container and scale.

What an array says is known exactly, as fractions made by Python's own numbers, so that a
test need not trust a conversion of NumPy's. Shapes are few: each one compiles.
"""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse as sp
from hypothesis import strategies as st
from jax.experimental.sparse import BCOO

SHAPES = ((), (5,), (3, 5), (2, 3, 5))
WHOLE = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]
FLOATS = ["f2", "f4", "f8", "g", jnp.bfloat16, jnp.float8_e4m3fn]
OTHERS = ["c8", "c16", "M8[s]", "m8[s]", "O", "S3", "U3", "V4", "f4,i2"]
LAYOUTS = ["C", "F", "strided", "reversed", "unaligned", "read only", "foreign bytes"]
DENSE = ["numpy", "matrix", "masked", "hidden", "list", "rows", "jax", "frame", "own"]
SPARSE = ["coo", "csr", "csc", "bsr", "dia", "lil", "dok", "BCOO"]


class Given(NamedTuple):
    """An array, and the numbers in it; None where it holds anything but real ones."""

    value: Any
    numbers: np.ndarray | None  # of fractions, in the shape of the array
    plain: np.ndarray  # the same in C order and native bytes, in a plain array

    def fits(self, dtype: Any) -> bool:
        """Whether floats of a dtype hold each number exactly."""
        return self.numbers is not None and all(
            _held(number, dtype) for number in self.numbers.ravel()
        )


class Own:
    """A container that NumPy knows how to ask."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)


def _held(number, dtype):
    try:
        return Fraction(float(np.dtype(dtype).type(float(number)))) == number
    except OverflowError:
        return False


def fractions(array):
    """The numbers in an array; None if there are others than finite real ones."""
    kind = "f" if "float" in array.dtype.name else array.dtype.kind
    if kind not in "biuf":
        return None
    found = np.empty(array.shape, object)
    for place in np.ndindex(array.shape):
        number = array[place]
        if kind == "f":
            number = number if isinstance(number, np.longdouble) else float(number)
            if not math.isfinite(number):
                return None
            found[place] = Fraction(*number.as_integer_ratio())
        else:
            found[place] = Fraction(int(number))
    return found


@st.composite
def given_arrays(draw, shapes=SHAPES, containers=DENSE + SPARSE, decades=300, more=OTHERS):
    """Arrays, real and finite ones most of the time."""
    shape = draw(st.sampled_from(shapes))
    size = math.prod(shape)
    dtype = np.dtype(draw(st.sampled_from(WHOLE + FLOATS + 2 * FLOATS[1:3] + list(more))))
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        whole = st.integers(int(info.min), int(info.max)) | st.integers(0, 100)
        array = np.array(draw(st.lists(whole, min_size=size, max_size=size)), dtype)
    elif dtype.kind in "?bfc" or "float" in dtype.name:
        unit = st.floats(-1, 1, allow_subnormal=False) | st.just(0.0)
        values = np.array(draw(st.lists(unit, min_size=size, max_size=size)), np.float64)
        values[abs(values) < 1e-6] = 0
        scale = 10.0 ** draw(st.integers(-decades, decades) | st.integers(-2, 2))
        with np.errstate(all="ignore"):
            array = (values.astype("g" if dtype == "g" else "f8") * scale).astype(dtype)
        if dtype == "g" and draw(st.booleans()):
            array = array + array * np.longdouble(2) ** -60
    else:
        array = np.zeros(size, "i4").astype(dtype) if dtype.names is None else None
        array = np.zeros(size, dtype) if array is None else array
    plain = array.reshape(shape)
    return _contained(draw, _laid_out(plain, draw(st.sampled_from(LAYOUTS))), containers)


def _laid_out(array, layout):
    """The same numbers, laid out in another way."""
    if layout == "F":
        return np.asfortranarray(array) if array.ndim else array
    if layout in ("strided", "reversed") and array.ndim:
        step = slice(None, None, 2 if layout == "strided" else -1)
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide = wide if layout == "strided" else wide[..., : array.shape[-1]]
        wide[..., step] = array
        return wide[..., step]
    if layout == "unaligned" and array.dtype.kind in "iuf":
        record = np.zeros(array.shape, [("pad", "u1"), ("value", array.dtype)])
        record["value"] = array
        return record["value"]
    if layout == "read only":
        array = array.copy()
        array.flags.writeable = False
    if layout == "foreign bytes":
        return array.astype(array.dtype.newbyteorder("S"))
    return array


def _contained(draw, array, containers):
    numbers, plain = fractions(array), np.array(array, array.dtype.newbyteorder("="))
    kind = draw(st.sampled_from(containers))
    if kind in SPARSE and array.ndim == 2:
        value = _sparse(array, kind)
        return Given(array if value is None else value, numbers, plain)
    if kind == "matrix" and array.ndim == 2:
        return Given(array.view(np.matrix), numbers, plain)
    if kind in ("masked", "hidden") and array.dtype.names is None:
        mask = np.zeros(array.shape, bool)
        if kind == "hidden":
            mask[(0,) * array.ndim] = True
            numbers = None
        return Given(np.ma.MaskedArray(array, mask), numbers, plain)
    if kind == "list" and array.ndim:
        return Given(array.tolist(), numbers, plain)
    if kind == "rows" and array.ndim:
        return Given(tuple(array), numbers, plain)
    try:
        if kind == "jax":
            # JAX knows no other byte order, and without 64 bits it would round.
            value = jnp.asarray(np.array(array, array.dtype.newbyteorder("=")))
            return Given(value, fractions(np.asarray(value)), plain)
        if kind == "frame" and array.ndim in (1, 2):
            value = (pd.Series if array.ndim == 1 else pd.DataFrame)(array)
            return Given(value, fractions(value.to_numpy()), plain)
    except (TypeError, ValueError, NotImplementedError):
        pass  # they refuse the dtype
    return Given(Own(array) if kind == "own" else array, numbers, plain)


def _sparse(array, kind):
    """A sparse matrix whose numbers have the byte order of the array; None if refused."""
    native = np.array(array, array.dtype.newbyteorder("="))
    try:
        if kind == "BCOO":
            if jnp.asarray(native).dtype != native.dtype:
                return None
            return BCOO.fromdense(jnp.asarray(native), nse=native.size)
        matrix = getattr(sp, f"{kind}_array")(native)
    except (TypeError, ValueError):
        return None
    if kind in ("coo", "csr", "csc", "bsr"):
        matrix.data = matrix.data.astype(array.dtype)
    return matrix


def one_line(error):
    """Whether an error says what is wanted, what came and what to do, in one line."""
    text = str(error)
    return "\n" not in text and " needs " in text and "Got " in text and text.endswith(".")
