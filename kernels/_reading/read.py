"""Read crossbar arrays: compute, convert, scale and add the analog products of tiles.

Word line `r` is driven with a voltage proportional to `v_r`, and bit line `c` collects

    i_c = sum_r w_rc v_r + n_c,

in units of the current range of one cell. Read noise that is independent and of equal
variance in all cells adds up to a normal `n_c` with variance `sigma**2 sum_r v_r**2` per
cell of the pair: one draw per output has exactly the distribution of one draw per cell. If
the variance of a cell depends on its state, a second product, `sum_r v_r**2 s_rc**2`, gives
the variance of the output; noise that is not normal keeps its first two moments that way.

Tiles that share their word lines lie side by side in a *strip*, with one row of weights per
bit line. A strip is then one product of matrices, whose currents are converted and added
before the next strip is read, so that no array holds all partial sums.

The key, the number of the word lines, the position of the vector in the batch and the
position of the output address the noise of a bit line, which therefore does not depend on
how tiles share strips.
"""

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from .._cells.device import Scalar
from .._numerics.random import normal_pair_at
from .line_conversion import Factors, convert_batch, converted, factors_of
from .strips import Strips

# Number of vectors up to which narrow strips are multiplied all at once: on a CPU a product
# of a few vectors is too small for a loop iteration of its own.
_FEW = 4
# Number of weights from which on a strip is worth an iteration: a MB in single precision.
_WIDE = 2**18
# Number of currents up to which one product computes those of all strips.
_HELD = 2**21
# Tells the noise of conversions from the noise of reads.
_CONVERSION = 2**31


def strip_currents(
    strips: Strips,
    voltages: Float[Array, "inputs batch rows"],
    sigma: Scalar,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "strips batch lines"]:
    """Compute the bit-line currents of all strips, in units of one cell's current range.

    **Arguments:**

    - `strips`: the arrays. Nothing is converted or scaled.
    - `voltages`: word-line voltages in units of the read voltage.
    - `sigma`: read noise of one weight, standard deviation in units of its range.
    - `key`: typed key of the read noise.

    **Example:**

        >>> one = jnp.ones((1, 1))
        >>> strips = sj.kernels.Strips(
        ...     jnp.array([[[0.5, -1.0]]]), None, None, *3 * (jnp.zeros(1, jnp.int32),),
        ...     scale=one, full_scale=None, cols=1, bits=None, paired=False,
        ... )
        >>> volts = jnp.array([[[1.0, 0.25]]])
        >>> print(sj.kernels.strip_currents(strips, volts, 0.0, key=jr.key(0)))
        [[[0.25]]]
    """
    v = voltages[strips.inputs]
    currents = jax.vmap(_currents)(strips, v)

    def noisy(currents):
        spread = jax.vmap(_spread, in_axes=(0, 0, None))(strips, v, sigma)
        draw = lambda strip, key: _noise(strip, key, currents.shape[1:], currents.dtype)
        return currents + spread * jax.vmap(draw)(strips, _pair_keys(strips, key))

    return _if_noisy(strips, sigma, noisy, lambda currents: currents, currents)


def read_strips(
    strips: Strips,
    voltages: Float[Array, "inputs batch rows"],
    sigma: Scalar,
    outputs: int,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "batch {outputs}"]:
    """Multiply by all strips, convert the currents of each tile, scale and add them.

    **Arguments:**

    - `strips`, `voltages`, `sigma`, `key`: as in `strip_currents`.
    - `outputs`: number of outputs of the whole matrix, a multiple of `cols`. Where a strip
        extends beyond them, its `scale` must be zero.

    **Example:**

        >>> strips = sj.kernels.Strips(
        ...     jnp.array([[[0.5, -1.0]]]), None, None, *3 * (jnp.zeros(1, jnp.int32),),
        ...     scale=jnp.array([[10.0]]), full_scale=None, cols=1, bits=None, paired=False,
        ... )
        >>> volts = jnp.array([[[1.0, 0.25]]])
        >>> print(sj.kernels.read_strips(strips, volts, 0.0, 1, key=jr.key(0)))
        [[2.5]]
    """
    factors = factors_of(strips)
    if voltages.shape[1] <= _FEW and strips.weights[:1].size < _WIDE:
        currents = strip_currents(strips, voltages, sigma, key=key)
        draw = lambda strip, own: _draws(strip, own, currents.shape[:0:-1], currents.dtype)
        draws = jax.vmap(draw)(strips, _conversion_keys(strips, key))
        products = jax.vmap(convert_batch)(strips, factors, currents, draws)
        return _add(strips, products, outputs)
    return _strip_by_strip(strips, factors, voltages, sigma, outputs, key).T


def _strip_by_strip(
    strips: Strips,
    factors: Factors,
    voltages: Float[Array, "inputs batch rows"],
    sigma: Scalar,
    outputs: int,
    key: PRNGKeyArray,
) -> Float[Array, "{outputs} batch"]:
    """Sum all strips one after another, with one row per output and one column per vector.

    In this layout the weights are the left factor of each product, which takes less time
    on CPUs than the transposed product.
    """
    batch = voltages.shape[1]
    # One product of all strips starts fewer threads, as long as its result is small.
    currents = None
    if strips.weights[..., 0].size * batch <= _HELD:
        currents = jax.vmap(_line_currents)(strips, voltages[strips.inputs])
    whole = strips, factors, currents, _conversion_keys(strips, key)
    leaves, tree = jax.tree.flatten(whole)
    keys = _pair_keys(strips, key)

    def digital(strip, factors, currents, own, noise):
        v = voltages[strip.inputs]
        if currents is None:
            currents = _line_currents(strip, v)
        if noise is not None:
            currents = currents + _spread(strip, v, sigma).T * noise
        draws = _draws(strip, own, currents.shape, currents.dtype)
        return converted(strip, factors, currents, draws)

    def one(sums, step, *, quiet=False):
        (strip, factors, currents, own), key = step
        noise = None
        if not quiet:
            shape = (strip.weights.shape[0], batch)
            noise = _line_noise_pair(strip, key, shape, sums.dtype)
            noise = jnp.where(strip.number % 2 == 0, *noise)
        return _accumulate(sums, strip, digital(strip, factors, currents, own, noise)), None

    def two(sums, step):
        """Add two strips whose noise comes from the same blocks of the cipher."""
        pair, key = step
        this, other = (tree.unflatten([leaf[i] for leaf in pair]) for i in (0, 1))
        noise = _line_noise_pair(this[0], key, sums.shape, sums.dtype)
        first = digital(this[0], this[1], this[2], this[3], noise[0])
        second = digital(other[0], other[1], other[2], other[3], noise[1])
        return sums + (first + second), None

    def noisy(sums):
        if not strips.paired:
            return lax.scan(one, sums, (whole, keys))[0]
        # Small arrays are split: where one expression takes two slices of the same array,
        # XLA on CPUs computes the noise for each, without vector instructions.
        pairs = [
            leaf.reshape(-1, 2, *leaf.shape[1:])
            if leaf.ndim > 2 and leaf is not currents
            else (leaf[0::2], leaf[1::2])
            for leaf in leaves
        ]
        return lax.scan(two, sums, (pairs, keys[::2]))[0]

    def silent(sums):
        return lax.scan(lambda *a: one(*a, quiet=True), sums, (whole, keys))[0]

    dtype = jnp.result_type(voltages, strips.weights)
    sums = jnp.zeros((outputs, batch), dtype)
    return _if_noisy(strips, sigma, noisy, silent, sums)


def _if_noisy(strips, sigma, noisy, silent, operand):
    """Call `noisy(operand)`, or `silent(operand)` if there is no noise to draw."""
    if strips.variance is not None:
        return noisy(operand)
    if isinstance(sigma, int | float):
        return noisy(operand) if sigma else silent(operand)
    return lax.cond(sigma > 0, noisy, silent, operand)


def batched_matvec(
    matrix: Float[Array, "m n"], vectors: Float[Array, "batch n"]
) -> Float[Array, "batch m"]:
    """Compute `A x` for each vector at full precision.

    For 2 to 4 vectors the product is written as `A X^T`, which takes a third of the time
    of `X A^T` on CPUs. The columns are stacked one by one, because XLA would turn a
    transpose of the whole back into `X A^T`.

    **Example:**

        >>> A, vectors = jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
        >>> print(sj.kernels.batched_matvec(A, vectors))
        [[1.]
         [2.]]
    """
    highest = lax.Precision.HIGHEST
    if not 1 < len(vectors) <= _FEW:
        return jnp.matmul(vectors, matrix.T, precision=highest)
    columns = jnp.matmul(matrix, vectors.T, precision=highest)
    return jnp.stack([columns[:, place] for place in range(len(vectors))])


def _currents(strip: Strips, v: Float[Array, "batch rows"]) -> Float[Array, "batch lines"]:
    """Noiseless currents of one strip."""
    highest = lax.Precision.HIGHEST
    currents = batched_matvec(strip.weights, v)
    if strip.higher_order is None:
        return currents
    powers = jnp.concatenate([v**2, v**3], axis=1)
    return currents + jnp.matmul(powers, strip.higher_order.T, precision=highest)


def _line_currents(
    strip: Strips, v: Float[Array, "batch rows"]
) -> Float[Array, "lines batch"]:
    """The same as `_currents`, with one row per bit line."""
    highest = lax.Precision.HIGHEST
    if len(v) == 1:
        currents = jnp.matmul(strip.weights, v[0], precision=highest)[:, None]
    else:
        currents = jnp.matmul(strip.weights, v.T, precision=highest)
    if strip.higher_order is None:
        return currents
    powers = jnp.concatenate([v**2, v**3], axis=1)
    return currents + jnp.matmul(strip.higher_order, powers.T, precision=highest)


def _spread(
    strip: Strips, v: Float[Array, "batch rows"], sigma: Scalar
) -> Float[Array, "batch lines"]:
    """Standard deviation of the noise of each current of one strip."""
    squares = v**2
    variance = jnp.asarray(sigma, v.dtype) ** 2 * jnp.sum(squares, axis=1, keepdims=True)
    if strip.variance is not None:
        highest = lax.Precision.HIGHEST
        variance = variance + jnp.matmul(squares, strip.variance.T, precision=highest)
    # The gradient of the root at zero, which is infinite, is set to zero.
    return jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)


def _pair_keys(strips: Strips, key: PRNGKeyArray) -> Key[Array, " strips"]:
    """The key of each strip; two strips of consecutive word lines share one."""
    if jr.key_impl(key) != "threefry2x32":
        key = jr.wrap_key_data(jr.bits(key, (2,), np.uint32), impl="threefry2x32")
    return jax.vmap(jr.fold_in, (None, 0))(key, strips.number // 2)


def _conversion_keys(strips: Strips, key: PRNGKeyArray) -> Key[Array, " strips"] | None:
    """The key of the noise of the conversions of each strip, if there is any."""
    if strips.errors is None or strips.errors.noise is None:
        return None
    return _pair_keys(strips, jr.fold_in(key, _CONVERSION))


def _draws(
    strip: Strips, key: PRNGKeyArray | None, shape: tuple[int, ...], dtype: np.dtype
) -> Float[Array, "lines batch"] | None:
    """Standard normals for the noise of conversions, with one row per bit line."""
    if key is None:
        return None
    return jnp.where(strip.number % 2 == 0, *_line_noise_pair(strip, key, shape, dtype))


def _noise_pair(strip, key, shape, dtype):
    row, column = (lax.broadcasted_iota(jnp.uint32, shape, axis) for axis in (0, 1))
    return normal_pair_at(key, row, column + strip.start.astype(jnp.uint32), dtype)


def _noise(
    strip: Strips, key: PRNGKeyArray, shape: tuple[int, int], dtype: np.dtype
) -> Float[Array, "batch lines"]:
    first, second = _noise_pair(strip, key, shape, dtype)
    return jnp.where(strip.number % 2 == 0, first, second)


def _line_noise_pair(strip, key, shape, dtype):
    """The draws of `_noise_pair`, with one row per bit line."""
    column, row = (lax.broadcasted_iota(jnp.uint32, shape, axis) for axis in (0, 1))
    return normal_pair_at(key, row, column + strip.start.astype(jnp.uint32), dtype)


def _accumulate(
    sums: Float[Array, "outputs batch"],
    strip: Strips,
    products: Float[Array, "lines batch"],
) -> Float[Array, "outputs batch"]:
    """Add the products of one strip to its outputs."""
    if products.shape == sums.shape:
        return sums + products
    lines = products.shape[0]
    held = lax.dynamic_slice_in_dim(sums, strip.start, lines)
    return lax.dynamic_update_slice_in_dim(sums, held + products, strip.start, axis=0)


def _add(
    strips: Strips, products: Float[Array, "strips batch lines"], outputs: int
) -> Float[Array, "batch {outputs}"]:
    """Add the products of all strips."""
    count, batch, lines = products.shape
    if count and lines == outputs:
        return jnp.sum(products, axis=0)
    width = lines // strips.cols
    tiles = products.reshape(count, batch, width, strips.cols).transpose(0, 2, 1, 3)
    place = strips.start[:, None] // strips.cols + jnp.arange(width, dtype=jnp.int32)[None]
    blocks = tiles.reshape(count * width, batch, strips.cols)
    sums = jax.ops.segment_sum(blocks, place.ravel(), outputs // strips.cols)
    return sums.transpose(1, 0, 2).reshape(batch, outputs)
