"""Draw noise from a counter, in a form that compilers fuse into whatever consumes it.

A key and the row-major index `c` of a cell address its draw: the Threefry block of counter
`c` under the key is the randomness of that cell (Salmon, Moraes, Dror & Shaw 2011,
"Parallel random numbers: as easy as 1, 2, 3", SC'11). If each tile gets the key
`jr.fold_in(key, tile)`, any tile can be drawn again anywhere, in any order or batch.

`bits`, `uniform` and `normal` return what `jax.random` returns under its default
partitionable scheme, bit for bit. JAX's own lowering for CPUs keeps the rounds of the
cipher in a loop, which XLA fuses with nothing; here they are written out, so that
elementwise consumers need no array of bits or normals. (Sums and products do need one: XLA
on CPUs stores their operands. JAX's lowering for GPUs also writes the rounds out, so that
the two should cost the same there.) Keys of other implementations, such as `rbg`, and
arrays of `2**32` cells or more go to `jax.random`.

Fusion affects rounding. Bits and uniforms are exact everywhere; a normal that is fused
into arithmetic may differ in the last bit from the same normal stored, as it may with
`jax.random`.
"""

import math
from functools import partial

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, UInt

from .cipher import cipher_block
from .wide_vectors import wide_jit

_WORD = {4: jnp.uint32, 8: jnp.uint64}


def bits(key: PRNGKeyArray, shape: tuple[int, ...], dtype=jnp.uint32) -> UInt[Array, "..."]:
    """Draw uniform bits: `jax.random.bits(key, shape, dtype)`, fused.

    **Arguments:**

    - `key`: one typed key.
    - `shape`: shape of the result. Static.
    - `dtype`: `uint32`, the exclusive or of the two words of each block, or `uint64`, the
        two words side by side.

    **Raises:**

    - `ValueError`: for another dtype, for `uint64` without `jax_enable_x64`, and for an
        untyped key or an array of keys.
    """
    return _bits(key, *_checked("bits", key, shape, dtype, ("uint32", "uint64")))


def uniform(key: PRNGKeyArray, shape: tuple[int, ...], dtype) -> Float[Array, "..."]:
    """Draw from [0, 1): `jax.random.uniform(key, shape, dtype)`, fused.

    The values are multiples of `2**-23` in float32 and of `2**-52` in float64, the only
    dtypes. Raises as `bits` does.
    """
    return _uniform(key, *_checked("uniform", key, shape, dtype))


def normal(key: PRNGKeyArray, shape: tuple[int, ...], dtype) -> Float[Array, "..."]:
    """Draw standard normals: `jax.random.normal(key, shape, dtype)`, fused.

    Each draw is `sqrt(2) erf_inv(u)` of one uniform `u` in (-1, 1). In float32 no draw
    exceeds 5.42 in magnitude, and there are `2**23` different ones; `normal_pair` has
    finer tails.
    Raises as `bits` does.

    **Example:**

        >>> draws = sj.kernels.normal(jr.key(0), (4, 3), jnp.float32)
        >>> bool(jnp.allclose(draws, jr.normal(jr.key(0), (4, 3), jnp.float32)))
        True
    """
    return _normal(key, *_checked("sedma_jax.kernels.normal", key, shape, dtype))


def normal_at(
    key: PRNGKeyArray, index: UInt[Array, " *cells"], dtype
) -> Float[Array, " *cells"]:
    """Draw `normal` at some cells only.

    `normal_at(key, index, dtype)` is `normal(key, shape, dtype).ravel()[index]`, for any
    shape that the index fits, without drawing the others.

    **Arguments:**

    - `key`: one typed key of the Threefry implementation.
    - `index`: row-major index of each cell, in 32 bits.
    - `dtype`: `float32` or `float64`.

    **Raises:**

    - `ValueError`: as `bits` does, and for a key of another implementation, whose draws
        cannot be made one by one.
    """
    dtype = _checked_at("normal_at", key, dtype)
    word = _word(key, index, np.dtype(_WORD[dtype.itemsize]))
    return _quantile(_mantissa(word, dtype), dtype)


def truncated_normal(
    key: PRNGKeyArray,
    bound: Float[Array, "..."] | float,
    shape: tuple[int, ...],
    dtype,
) -> Float[Array, "..."]:
    """Draw standard normals conditioned on `|z| <= bound`, without rejection.

    This is the distribution of an error that is redrawn until it lies in an acceptance
    band. By inversion, `z = sqrt(2) erf_inv(u erf(bound / sqrt(2)))` with the `u` of
    `normal`: both functions keep their relative accuracy at zero, so that narrow bounds
    lose none, and a wide enough bound returns `normal(key, shape, dtype)` itself. The
    result is differentiable in `bound`.

    **Arguments:**

    - `key`: one typed key.
    - `bound`: half-width of the band in standard deviations, from 0 up; one number, or
        one per cell.
    - `shape`: shape of the result. Static.
    - `dtype`: `float32` or `float64`.

    **Raises:**

    - `ValueError`: as `bits` does, and for a `bound` whose shape is neither `()` nor
        `shape`.
    """
    shape, dtype = _checked("truncated_normal", key, shape, dtype)
    root = math.sqrt(2)
    if isinstance(bound, int | float):
        # XLA would fold `erf` of a constant, off by the last bit from its own kernel.
        mass = jnp.asarray(math.erf(bound / root), dtype)
    else:
        mass = lax.erf(jnp.asarray(bound, dtype) / dtype.type(root))
    bound = jnp.asarray(bound, dtype)
    if bound.shape not in ((), shape):
        raise ValueError(
            "`truncated_normal` needs one `bound`, or one per cell. "
            f"Got bounds of shape {bound.shape} for cells of shape {shape}. "
            "Broadcast them first."
        )
    return _truncated_normal(key, bound, mass, shape, dtype)


def normal_pair(
    key: PRNGKeyArray, shape: tuple[int, ...], dtype
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Draw two independent arrays of standard normals for about the cost of one.

    The two words of a Threefry block give a point of the plane by the polar form of Box &
    Muller (1958), Ann. Math. Stat. 29, 610: `sqrt(-2 log t)` times the cosine and the
    sine of a uniform angle. The two draws suit the two cells of a differential pair, or
    two rounds of the same cell. Use both arrays in one expression: where they end in
    separate arrays, the block is computed for each, and little is gained.

    The draws are not those of `jax.random` for any key, and they are not independent of
    what `bits`, `uniform` and `normal` return for the same key. Magnitudes reach 6.66 in
    float32 and 8.65 in float64. Raises as `bits` does.

    **Example:**

        >>> a, b = sj.kernels.normal_pair(jr.key(0), (1000,), jnp.float32)
        >>> bool(abs(jnp.mean(a * b)) < 0.2)  # not correlated
        True
    """
    return _normal_pair(key, *_checked("sedma_jax.kernels.normal_pair", key, shape, dtype))


def normal_pair_at(
    key: PRNGKeyArray,
    row: UInt[Array, " *cells"],
    column: UInt[Array, " *cells"],
    dtype,
) -> tuple[Float[Array, " *cells"], Float[Array, " *cells"]]:
    """Draw `normal_pair` at cells of a table of any size, by the block of (row, column).

    The draws of row 0 in float32 are those of `normal_pair`.

    **Arguments:**

    - `key`: one typed key of the Threefry implementation.
    - `row`, `column`: position of each cell, in 32 bits each.
    - `dtype`: `float32` or `float64`.

    **Raises:**

    - `ValueError`: as `normal_at` does.

    **Example:**

        >>> column = jnp.array([7, 2], jnp.uint32)
        >>> some, _ = sj.kernels.normal_pair_at(jr.key(0), 0 * column, column, jnp.float32)
        >>> every, _ = sj.kernels.normal_pair(jr.key(0), (10,), jnp.float32)
        >>> bool(jnp.allclose(some, every[column]))
        True
    """
    dtype = _checked_at("sedma_jax.kernels.normal_pair_at", key, dtype)
    radial, angular = cipher_block(key, column, row)
    if dtype.itemsize == 8:
        radial = _join(radial, angular)
        angular = _join(*cipher_block(jr.fold_in(key, 0), column, row))
    return _polar(radial, angular, dtype)


def _checked_at(name: str, key: PRNGKeyArray, dtype: DTypeLike) -> np.dtype:
    _, dtype = _checked(name, key, (), dtype)
    if not _counts(key, ()):
        raise ValueError(
            f"`{name}` needs a Threefry key. Got one of "
            f"`{jr.key_impl(key)}`. Make it by `jax.random.key(seed)`."
        )
    return dtype


def _checked(
    name: str,
    key: PRNGKeyArray,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    allowed: tuple[str, ...] = ("float32", "float64"),
) -> tuple[tuple[int, ...], np.dtype]:
    dtype = np.dtype(dtype)
    if dtype.name not in allowed:
        raise ValueError(
            f"`{name}` needs `dtype` to be {' or '.join(allowed)}. "
            f"Got {dtype.name}. Draw in one of them and cast."
        )
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(
            f"`{name}` needs 64-bit arrays for this `dtype`. Got "
            f"{dtype.name} with jax_enable_x64 off. Switch it on, or draw in 32 bits."
        )
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.shape:
        raise ValueError(
            f"`{name}` needs one typed key. Got an array of shape "
            f"{key.shape} and dtype {key.dtype}. Make keys by `jax.random.key`, and map "
            "over several by `jax.vmap`."
        )
    return tuple(shape), dtype


def _counts(key: PRNGKeyArray, shape: tuple[int, ...]) -> bool:
    """Whether counters of 32 bits under a Threefry key address these cells."""
    return jr.key_impl(key) == "threefry2x32" and math.prod(shape) < 2**32


def _index(shape: tuple[int, ...]) -> UInt[Array, "..."]:
    # A sum of one iota per axis partitions over devices without traffic.
    index = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = math.prod(shape[axis + 1 :])
        index = index + lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
    return index


def _join(high: UInt[Array, "..."], low: UInt[Array, "..."]) -> UInt[Array, "..."]:
    return (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)


@partial(wide_jit, static_argnums=(1, 2))
def _bits(key: PRNGKeyArray, shape: tuple[int, ...], dtype: np.dtype) -> UInt[Array, "..."]:
    if not _counts(key, shape):
        return jr.bits(key, shape, dtype)
    return _word(key, _index(shape), dtype)


def _word(
    key: PRNGKeyArray, index: UInt[Array, "..."], dtype: np.dtype
) -> UInt[Array, "..."]:
    high, low = cipher_block(key, index)
    return high ^ low if dtype.itemsize == 4 else _join(high, low)


@partial(jax.jit, static_argnums=(1, 2))
def _uniform(
    key: PRNGKeyArray, shape: tuple[int, ...], dtype: np.dtype
) -> Float[Array, "..."]:
    return _mantissa(_bits(key, shape, np.dtype(_WORD[dtype.itemsize])), dtype)


def _mantissa(word: UInt[Array, "..."], dtype: np.dtype) -> Float[Array, "..."]:
    # The leading bits become the mantissa of a number from 1 to 2.
    info = jnp.finfo(dtype)
    one = np.ones((), dtype).view(word.dtype)
    return lax.bitcast_convert_type((word >> (info.bits - info.nmant)) | one, dtype) - 1


def _symmetric(uniform: Float[Array, "..."], dtype: np.dtype) -> Float[Array, "..."]:
    """Map to (-1, 1), symmetrically but for the open end, as `jax.random` does."""
    return 2 * uniform + np.nextafter(dtype.type(-1), dtype.type(0))


@partial(jax.jit, static_argnums=(1, 2))
def _normal(
    key: PRNGKeyArray, shape: tuple[int, ...], dtype: np.dtype
) -> Float[Array, "..."]:
    if not _counts(key, shape):
        return jr.normal(key, shape, dtype)
    return _quantile(_uniform(key, shape, dtype), dtype)


def _quantile(uniform: Float[Array, "..."], dtype: np.dtype) -> Float[Array, "..."]:
    return dtype.type(math.sqrt(2)) * lax.erf_inv(_symmetric(uniform, dtype))


@partial(jax.jit, static_argnums=(3, 4))
def _truncated_normal(
    key: PRNGKeyArray,
    bound: Float[Array, "..."],
    mass: Float[Array, "..."],
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> Float[Array, "..."]:
    z = dtype.type(math.sqrt(2)) * lax.erf_inv(
        _symmetric(_uniform(key, shape, dtype), dtype) * mass
    )
    # Rounding may exceed the band by a unit in the last place.
    return jnp.clip(z, -bound, bound)


@partial(wide_jit, static_argnums=(1, 2))
def _normal_pair(
    key: PRNGKeyArray, shape: tuple[int, ...], dtype: np.dtype
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    if not _counts(key, shape):
        first, second = jr.split(key)
        return jr.normal(first, shape, dtype), jr.normal(second, shape, dtype)
    index = _index(shape)
    radial, angular = cipher_block(key, index)
    if dtype.itemsize == 8:
        radial = _join(radial, angular)
        angular = _join(*cipher_block(key, index, stream=1))
    return _polar(radial, angular, dtype)


def _polar(
    radial: UInt[Array, "..."], angular: UInt[Array, "..."], dtype: np.dtype
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Make two normals from two words as wide as `dtype`."""
    width = 8 * dtype.itemsize
    # Keep as many leading bits as a signed integer or the mantissa holds, and add half a
    # unit, so that the logarithm never sees zero.
    kept = 31 if width == 32 else 53
    signed = jnp.dtype(f"int{width}")
    t = (radial >> (width - kept)).astype(signed).astype(dtype)
    radius = jnp.sqrt(-2 * jnp.log(t * 2.0**-kept + 2.0 ** -(kept + 1)))
    # Two bits choose the quarter turn: one exchanges sine and cosine, the other changes the
    # sign of both. The remaining bits give an angle within an eighth of a turn.
    unit = lax.bitcast_convert_type(angular << 2, signed).astype(dtype)
    sine, cosine = _sine_cosine(unit * (math.pi / 4 * 2.0 ** (1 - width)))
    upright = (angular >> (width - 1)) == 0
    sign = (angular >> (width - 2)) << (width - 1)
    first = radius * jnp.where(upright, cosine, -sine)
    second = radius * jnp.where(upright, sine, cosine)
    return _flip(first, sign), _flip(second, sign)


def _flip(x: Float[Array, "..."], sign: UInt[Array, "..."]) -> Float[Array, "..."]:
    # By bits: XLA's reductions on CPUs fuse floating-point producers one by one, and would
    # store the two factors of a product separately, each with a cipher of its own.
    word = lax.bitcast_convert_type(x, sign.dtype)
    return lax.bitcast_convert_type(word ^ sign, x.dtype)


def _sine_cosine(
    x: Float[Array, "..."],
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Sine and cosine of `|x| <= pi / 4` by Taylor's series.

    The library functions accept any angle, and are not vectorised on CPUs. The first
    omitted terms are below half a unit in the last place of the results.
    """
    terms = 5 if x.dtype.itemsize == 4 else 9
    square = x * x
    sine, cosine = jnp.ones_like(x), jnp.ones_like(x)
    for k in range(2 * terms - 2, 0, -2):
        sine = 1 - square * (1 / (k * (k + 1))) * sine
        cosine = 1 - square * (1 / (k * (k - 1))) * cosine
    return x * sine, cosine
