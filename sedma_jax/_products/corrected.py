"""Multiply with both stages of error correction."""

from functools import partial

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._crossbar.abstract_crossbar import AbstractCrossbar
from .._crossbar.converters import ADC, DAC
from .._crossbar.crossbar import (
    check_vector,
    stored_matrix,
)
from .._keys import check_key, split_key
from .._programming.program import (
    Mapping,
    Progress,
    Scaling,
    Scheme,
    program_partition,
)
from .._programming.program_stats import ProgramStats
from .._tiling.partition import (
    Matrix,
    Partition,
    Sparse,
    Vectors,
    assemble,
    checked_array,
    exact_product,
    partition,
)
from ..kernels import (
    Device,
    LambdaChoice,
    RememberedLambda,
    VerifyRule,
    column_scale,
    combine_lambda,
    denoise as denoise_kernel,
    differential,
    product_noise,
    roughness_spectrum,
    stein_lambda,
    write_and_verify,
)

# The fixed value of MELISO+. It is the identity in float32: ||D - I|| is about 4e-12.
BASELINE_LAMBDA = 1e-12

# Entries that `denoise` works on at once on a CPU, so that they stay in cache between its
# products: a third less time than all at once. Other backends take all.
_CACHED = 2**18


class CorrectionInfo(eqx.Module):
    """What a corrected product was made of, and how far it is from the exact one.

    - `raw`: the plain analog product `A~ x`.
    - `relative_l2_raw`, `relative_l2_corrected`: `|y - A x| / |A x|`, of each vector.
    - `relative_linf_raw`, `relative_linf_corrected`: the same in the largest norm.
    - `lam`: weight of the roughness that was used.
    - `stats`: what programming the matrix took.
    - `vector_stats`: what encoding the input took.
    - `choice`: where `lam` came from, if the product chose it.
    """

    raw: Float[Array, "*batch m"]
    relative_l2_raw: Float[Array, " *batch"]
    relative_l2_corrected: Float[Array, " *batch"]
    relative_linf_raw: Float[Array, " *batch"]
    relative_linf_corrected: Float[Array, " *batch"]
    lam: Float[Array, ""]
    stats: ProgramStats
    vector_stats: ProgramStats
    choice: LambdaChoice | None = None


def denoise(
    p: Vectors,
    lam: Float[Array, ""] | float,
    *,
    zero_end: bool = False,
) -> Float[Array, "*batch n"]:
    """Smooth signals: `(I + lam L^T L)^-1 p`, in O(n), batched over leading axes.

    **Arguments:**

    - `p`: signals along the last axis.
    - `lam`: weight of the roughness, from 0 (returns `p`) up.
    - `zero_end`: with true, `L` is square with last row `e_n`, as MELISO+ has it.

    **Returns:**

    Signals of the same shape; differentiable in `p` and `lam` (SEDMA, Eq. 5).

    **Raises:**

    - `ValueError`: if `lam` is a negative or non-finite number, or `p` is empty.
    """
    p = jnp.asarray(p)
    check_lambda(lam)
    if p.ndim == 0 or p.size == 0 or not jnp.issubdtype(p.dtype, jnp.floating):
        raise ValueError(
            "`sedma_jax.denoise` needs real signals of one entry or more. "
            f"Got shape {p.shape}, dtype {p.dtype}."
        )
    return _denoise(p.reshape(-1, p.shape[-1]), lam, zero_end).reshape(p.shape)


@partial(jax.jit, static_argnames=("zero_end",))
def _denoise(p, lam, zero_end):
    solve = lambda signal: denoise_kernel(signal, lam, zero_end=zero_end)
    batch = max(1, _CACHED // p.shape[1])
    if len(p) <= 2 * batch:
        return jax.vmap(solve)(p)
    return lax.platform_dependent(
        p, cpu=lambda p: lax.map(solve, p, batch_size=batch), default=jax.vmap(solve)
    )


def check_lambda(lam: Float[Array, ""] | float | RememberedLambda) -> None:
    """Refuse a weight of the roughness that is a negative or non-finite number."""
    if isinstance(lam, int | float) and not 0 <= lam < float("inf"):
        raise ValueError(
            f"`lam` needs to be finite and not negative. Got {lam=}. "
            "Zero leaves the signal as it is."
        )


def corrected_matvec(
    A: Matrix,
    x: Vectors,
    device: Device,
    *,
    lam: Float[Array, ""] | float | RememberedLambda = BASELINE_LAMBDA,
    array: tuple[int, int] = (256, 256),
    arrays: int | None = None,
    mapping: Mapping = differential,
    scaling: Scaling = column_scale,
    scheme: Scheme = write_and_verify,
    rule: VerifyRule | None = None,
    dac: DAC | None = None,
    adc: ADC | None = None,
    analog_matrix: bool = False,
    programmed: tuple[AbstractCrossbar, ProgramStats] | None = None,
    progress: Progress | None = None,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "*batch m"], CorrectionInfo]:
    """Program a matrix, multiply, and correct to first and second order.

    The input is encoded on cells of the same device, `x~`, once for each vector. Then
    `p = A x~ + A~ (x - x~)` costs one product with each of `A` and `A~`, and leaves the
    product of the two errors; `denoise` smooths it. This is the `physical` accounting:
    all effects of the device are on, and every event counts once.

    **Arguments:**

    - `A`, `device`, `array`, `arrays`, `mapping`, `scaling`, `scheme`, `rule`,
        `progress`: as in `program`. `x`, `dac`, `adc`: as in `matvec`.
    - `lam`: weight of the roughness, from 0 up. The default is that of MELISO+. A
        `RememberedLambda` has it chosen for this product by Stein's unbiased estimate of
        the risk, together with what is remembered of earlier ones (SEDMA, Eq. 6); an
        empty one has the data decide alone. The batch shares one weight.
    - `analog_matrix`: `A x~` needs the exact matrix. With false it is a digital product,
        which costs as much as the exact answer. With true it is read from the cells
        that hold `x~`, with the rows of `A` as inputs, `m` analog products that
        inherit the errors of the converters and of reading.
    - `programmed`: what `program(A, device)` or `program_pool(A, pool)` returned, to be
        used again. Then `device`, `array` and the like only say how the input is encoded.
    - `key`: typed key of all randomness.

    **Returns:**

    The corrected product, and its record.

    **Raises:**

    - `ValueError`: as `program`, `matvec` and `denoise` do.
    """
    check_key(key)
    check_lambda(lam)
    # Cut into tiles only to be programmed: a dense matrix multiplies faster as it is.
    operand = (
        partition(A, *array) if isinstance(A, Sparse) else checked_array(A, "A", ndim=2)
    )
    x = check_vector(x, operand)
    x = x.astype(operand.tiles.dtype if isinstance(operand, Partition) else operand.dtype)
    vectors = jnp.atleast_2d(x)
    matrix_key, vector_key, read_key = split_key(key, 3)
    write = partial(
        program_partition,
        device=device,
        mapping=mapping,
        scaling=scaling,
        scheme=scheme,
        rule=rule,
    )
    if programmed is None:
        parts = operand if isinstance(operand, Partition) else partition(operand, *array)
        programmed = write(parts, arrays=arrays, progress=progress, key=matrix_key)
    crossbar, stats = programmed
    if crossbar.shape != operand.shape:
        raise ValueError(
            "`sedma_jax.corrected_matvec` needs `programmed` to hold `A`. Got shapes "
            f"{crossbar.shape} and {operand.shape}. Leave it out to program `A` anew."
        )
    parts = partition(vectors, *encoding_array(array, len(vectors)))
    encoded, vector_stats = write(parts, arrays=None, progress=None, key=vector_key)
    products = _products(
        operand, crossbar, encoded, vectors, dac, adc, read_key, analog_matrix
    )
    raw = products[0]
    y, errors, weight, choice = _correct(*products, vectors, lam)
    one = lambda v: v if x.ndim == 2 else v[0]
    l2_raw, l2, linf_raw, linf = map(one, errors)
    info = CorrectionInfo(
        one(raw), l2_raw, l2, linf_raw, linf, weight, stats, vector_stats, choice
    )
    return one(y), info


def encoding_array(array: tuple[int, int], batch: int) -> tuple[int, int]:
    """What inputs take of arrays of this size, one vector to a bit line."""
    return array[0], min(array[1], batch)


@partial(jax.jit, static_argnames=("analog_matrix",))
def _products(A, crossbar, encoded, x, dac, adc, key, analog_matrix):
    """The analog product, the one corrected to first order, the exact one, and `x~`."""
    read_key, encoded_key = jr.split(key)
    x_tilde = stored_matrix(encoded)
    # One pass over the arrays, and one over the matrix.
    analog = crossbar.read(jnp.concatenate([x, x - x_tilde]), dac, adc, read_key)
    raw, difference = jnp.split(analog, 2)
    if analog_matrix:
        matrix = assemble(A.tiles, A) if isinstance(A, Partition) else A
        first, exact = encoded.read(matrix, dac, adc, encoded_key).T, exact_product(A, x)
    else:
        first, exact = jnp.split(exact_product(A, jnp.concatenate([x_tilde, x])), 2)
    return raw, first + difference, exact, x_tilde


# Apart from the products, since this is the same program however the matrix is cut.
@jax.jit
def _correct(raw, p, exact, x_tilde, x, lam):
    choice = None
    if isinstance(lam, RememberedLambda):
        choice = lax.stop_gradient(choose_lambda(lam, raw, p, x, x_tilde))
        lam = choice.lam
    lam = jnp.asarray(lam, p.dtype)
    y = denoise(p, lam)
    norms = (jnp.linalg.norm, lambda v, axis: jnp.max(jnp.abs(v), axis=axis))
    errors = [relative_error(v, exact, norm) for norm in norms for v in (raw, y)]
    return y, errors, lam, choice


def choose_lambda(memory, raw, p, x, x_tilde):
    """Eq. 6; all vectors of the batch have one weight."""
    variance = jax.vmap(product_noise)(raw, p, x, x - x_tilde)
    spectrum = roughness_spectrum(p, jnp.broadcast_to(variance[:, None], p.shape))
    return combine_lambda(spectrum, stein_lambda(spectrum), memory)


def relative_error(
    values: Float[Array, "batch m"], exact: Float[Array, "batch m"], norm
) -> Float[Array, " batch"]:
    """Error over the norm of the exact result; the plain error where that is zero."""
    values, exact = lax.stop_gradient((values, exact))
    size = norm(exact, axis=1)
    return norm(values - exact, axis=1) / jnp.where(size == 0, 1, size)
