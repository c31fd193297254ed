"""A user's array as an array of this machine: the same numbers, or a refusal.

`np.asarray` drops masks and units, joins wide integers and floats to floats that hold
neither, and keeps a foreign byte order, which the name of a dtype does not show.
"""

from collections.abc import Iterator
from typing import Any, NoReturn

import jax
import jax.core
import jax.dtypes
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental import sparse as jax_sparse

_FLOAT64 = np.dtype(np.float64)


def real_floats(
    value: Any, name: str, *, integers: Any = None, remedy: str | None = None
) -> jax.Array | np.ndarray:
    """The entries of any container as floating numbers of 32 or 64 bits that equal them.

    Shorter floats become float32, longer ones float64. An array of JAX stays one; under a
    trace its values are not looked at.

    **Arguments:**

    - `name`: what messages call `value`, as a user wrote it.
    - `integers`: dtype that integers and booleans get; JAX's default float if left out.

    **Raises:**

    - `ValueError`: if anything would be lost: masked entries, a unit, an imaginary part,
        digits of a long integer or a long float; or if it is no array of numbers.
    """
    array = native_array(value, name)
    check_dtype(array.dtype, name, remedy)
    return as_floats(array, name, integers=integers)


def native_array(value: Any, name: str) -> jax.Array | np.ndarray:
    """The entries of any container, in the byte order of this machine and in C order.

    An array of JAX is returned as it is. Of dtypes only those are refused that a table of
    pandas cannot join.
    """
    if isinstance(value, jax.Array):
        return value
    if hasattr(value, "__jax_array__"):  # a variable of NNX, which may be traced
        return jnp.asarray(value)
    array = value if type(value) is np.ndarray else _unwrapped(value, name)
    if isinstance(array, jax.Array):
        return array
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.require(array, requirements=["C", "A"])


def check_dtype(dtype: Any, name: str, remedy: str | None = None) -> None:
    """Refuse entries that are not real numbers."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        remedy = remedy or "Program the real and the imaginary part as two matrices."
        _refuse(name, "real entries", f"dtype {dtype}", remedy)
    # NumPy counts spans of time among the integers.
    number = jnp.issubdtype(dtype, jnp.number) and dtype.kind != "m"
    if not number and not jnp.issubdtype(dtype, np.bool_):
        _refuse(
            name,
            "float, integer or boolean entries",
            f"dtype {dtype}",
            "Convert it with `.astype('float32')`.",
        )


def as_floats(
    array: jax.Array | np.ndarray, name: str, *, integers: Any = None
) -> jax.Array | np.ndarray:
    """`real_floats`, for a native array whose dtype is checked."""
    return exactly(array, float_dtype(array.dtype, integers), name)


def exactly(
    array: jax.Array | np.ndarray, wanted: np.dtype, name: str
) -> jax.Array | np.ndarray:
    """The same numbers in another dtype, as far as their values are known."""
    if wanted == array.dtype:
        return array
    if not isinstance(array, jax.core.Tracer):
        lost = inexact(array, wanted)
        if lost is not None:
            first, count = lost
            wide = " Or set `jax_enable_x64`." if wanted.itemsize == 4 else ""
            _refuse(
                name,
                f"entries that {wanted} holds exactly",
                f"{np.asarray(array)[first]!s} of {array.dtype} at {first}, {count} such "
                "entries in all",
                f"Round them with `.astype('{wanted}')`.{wide}",
            )
    with np.errstate(all="ignore"):  # a signalling NaN
        return array.astype(wanted)


def float_dtype(dtype: Any, integers: Any = None) -> np.dtype:
    """Of the floating numbers that hold real entries: 32 or 64 bits."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return np.dtype(jnp.result_type(float) if integers is None else integers)
    if dtype.itemsize <= 4:
        return np.dtype(np.float32)
    return _FLOAT64


def programmed_dtype(dtype: Any) -> np.dtype:
    """The floating dtype of a matrix of some dtype, once it is an array of JAX."""
    return np.dtype(jax.dtypes.canonicalize_dtype(float_dtype(dtype)))


def inexact(
    array: jax.Array | np.ndarray, wanted: np.dtype
) -> tuple[tuple[int, ...], int] | None:
    """Place of the first entry that floats of `wanted` do not hold, and how many there are.

    Integers up to `2^digits` are held, and longer ones that end in enough zero bits.
    """
    dtype, digits = array.dtype, jnp.finfo(wanted).nmant + 1
    if jnp.issubdtype(dtype, jnp.floating):
        if dtype.itemsize <= wanted.itemsize:
            return None
        values = np.asarray(array)
        with np.errstate(all="ignore"):
            lost = (values.astype(wanted).astype(dtype) != values) & ~np.isnan(values)
    elif dtype.itemsize * 8 <= digits or dtype.kind not in "iu":
        return None
    else:
        values = np.asarray(array)
        bound = 1 << digits
        if not values.size or (values.max() <= bound and values.min() >= -bound):
            return None
        bits = values.astype(np.int64 if dtype.kind == "i" else np.uint64).view(np.uint64)
        size = np.where(values < 0, ~bits + np.uint64(1), bits)
        lowest = np.maximum(size & (~size + np.uint64(1)), np.uint64(1))
        lost = size // lowest >= np.uint64(bound)
    places = np.argwhere(lost)
    if not len(places):
        return None
    return tuple(int(i) for i in places[0]), len(places)


def _unwrapped(value: Any, name: str) -> jax.Array | np.ndarray:
    """A plain array of the entries of a container that is none."""
    kind = type(value).__name__
    if isinstance(value, jax_sparse.JAXSparse) or scipy.sparse.issparse(value):
        _refuse(name, "a dense array", f"a sparse one, {kind}", "Pass `.todense()`.")
    if isinstance(value, np.ndarray):
        _check_whole(value, name)
        return np.asarray(value)
    if hasattr(value, "iloc"):  # pandas
        return _table(value, name) if value.ndim == 2 else _converted(value, name)
    if not isinstance(value, list | tuple):
        return _converted(value, name)
    leaves = list(_leaves(value))
    for leaf in leaves:
        if isinstance(leaf, np.ndarray):
            _check_whole(leaf, name)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return jnp.asarray(value)
    array = _converted(value, name)
    if array.dtype.kind == "f":
        for leaf in leaves:
            if isinstance(leaf, int | np.integer | np.ndarray):
                _checked_join(np.asarray(leaf), array.dtype, name)
    return array


def _leaves(value: list | tuple) -> Iterator[Any]:
    for item in value:
        if isinstance(item, list | tuple):
            yield from _leaves(item)
        else:
            yield item


def _check_whole(array: np.ndarray, name: str) -> None:
    """Refuse what a subclass of an array has beside its numbers."""
    if array.dtype.names is None and np.ma.is_masked(array):
        _refuse(
            name,
            "entries that are all known",
            f"{int(np.ma.getmaskarray(array).sum())} masked ones",
            "Fill them first, for instance by `.filled(0)`.",
        )
    for field in ("unit", "units"):
        unit = getattr(array, field, None)
        if unit is not None:
            _refuse(name, "plain numbers", f"the unit {unit}", "Pass them in SI units.")


def _table(table: Any, name: str) -> np.ndarray:
    """A table of pandas, column by column: together they would become objects or floats."""
    columns = []
    for place, title in enumerate(table.columns):
        column = native_array(np.asarray(table.iloc[:, place]), name)
        if column.dtype.kind == "V" and jnp.issubdtype(column.dtype, jnp.floating):
            column = column.astype(np.float32)  # bfloat16 and the like, which NumPy lacks
        if column.dtype.kind not in "biufc":
            _refuse(
                name,
                "columns of numbers without gaps",
                f"column {title!r} of {table.dtypes.iloc[place]}",
                "Drop it, or convert it.",
            )
        columns.append(column)
    if not columns:
        return np.empty(table.shape)
    dtype = np.result_type(*columns)
    return np.stack([_checked_join(column, dtype, name) for column in columns], axis=1)


def _checked_join(array: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """An array in a dtype that it shares with others, exactly."""
    if dtype.kind == "f" and array.dtype.kind in "iuO":
        lost = array.dtype.kind == "O" or inexact(array, dtype) is not None
        if lost:
            _refuse(
                name,
                f"integers that {dtype} holds exactly beside its floats",
                f"{np.max(np.abs(array))}",
                "Convert it to one dtype first.",
            )
    return array.astype(dtype)


def _converted(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except jax.errors.JAXTypeError:  # a tracer, which JAX explains better
        raise
    # Containers of others raise anything.
    except Exception as error:
        said = " ".join(str(error).split()).rstrip(".")[:160] or type(error).__name__
        _refuse(
            name,
            "an array of numbers",
            f"a {type(value).__name__} that NumPy cannot convert ({said})",
            "Give all rows the same length.",
        )


def _refuse(name: str, requirement: str, got: str, remedy: str) -> NoReturn:
    raise ValueError(f"`{name}` needs {requirement}. Got {got}. {remedy}")
