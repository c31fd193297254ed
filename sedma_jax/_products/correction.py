"""What a corrected product does with its products: smooth, choose lambda, and say how far.

The regularisation parameter lambda of the smoothing is given by the caller, or chosen here
for each product from the data and what is remembered of earlier ones (SEDMA, Eq. 6).
"""

from functools import partial

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._crossbar.crossbar import batch_bucket
from .._functions import on_device, on_host
from .._mappings import forgettable
from .._programming.program_stats import ProgramStats
from .._tiling.native import programmed_dtype
from .._tiling.number_range import check_range
from .._tiling.partition import Vectors
from ..kernels import (
    FROM_ZERO,
    LambdaChoice,
    RememberedLambda,
    check_given,
    combine_lambda,
    correct_first_order,
    denoise as denoise_kernel,
    known_numbers,
    power_of_two,
    product_noise,
    roughness_spectrum,
    safe_norm,
    shown,
    stein_lambda,
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
    - `lam`: regularisation parameter that was used.
    - `stats`: what programming the matrix took.
    - `vector_stats`: what encoding the input took.
    - `choice`: where `lam` came from, if the product chose it.

    **Example:**

        >>> A, x = np.eye(16), np.linspace(1, 2, 16)
        >>> y, info = sj.corrected_matvec(A, x, "epiram", lam=0.0, array=16, key=jr.key(0))
        >>> error = jnp.linalg.norm(y - x) / jnp.linalg.norm(x)
        >>> bool(jnp.allclose(error, info.relative_l2_corrected, rtol=0.01))
        True
        >>> int(info.stats.pulses) > 0, int(info.vector_stats.pulses) > 0
        (True, True)
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
    - `lam`: regularisation parameter, from 0 (returns `p`) up.
    - `zero_end`: with true, `L` is square with last row `e_n`, as MELISO+ has it.

    **Returns:**

    Signals of the same shape; differentiable in `p` and `lam` (SEDMA, Eq. 5).

    **Raises:**

    - `ValueError`: if `lam` is a negative or non-finite number, or `p` is empty.

    **Example:**

        >>> y = sj.denoise(np.array([1.0, 3.0]), 1.0)  # [[2, -1], [-1, 2]] y = p
        >>> print(np.asarray(3 * y).round(3))
        [5. 7.]
    """
    check_lambda("denoise", lam)
    if isinstance(p, np.ndarray) and p.ndim and np.issubdtype(p.dtype, np.floating):
        check_range(p, "p", programmed_dtype(p.dtype), axis=-1)
    p = jnp.asarray(p)
    if p.ndim == 0 or p.size == 0 or not jnp.issubdtype(p.dtype, jnp.floating):
        raise ValueError(
            "`sedma_jax.denoise` needs real signals of one entry or more. "
            f"Got shape {p.shape}, dtype {p.dtype}. Convert it with `.astype('float32')`."
        )
    return _denoise(p.reshape(-1, p.shape[-1]), lam, zero_end).reshape(p.shape)


@forgettable
@partial(jax.jit, static_argnames=("zero_end",))
def _denoise(p, lam, zero_end):
    solve = lambda signal: denoise_kernel(signal, lam, zero_end=zero_end)
    batch = max(1, _CACHED // p.shape[1])
    if len(p) <= 2 * batch:
        return jax.vmap(solve)(p)
    return lax.platform_dependent(
        p, cpu=lambda p: lax.map(solve, p, batch_size=batch), default=jax.vmap(solve)
    )


def check_lambda(call: str, lam: Float[Array, ""] | float | RememberedLambda) -> None:
    """Refuse a regularisation parameter that is a negative or non-finite number."""
    if isinstance(lam, RememberedLambda):
        return
    call, remedy = f"sedma_jax.{call}", "Zero leaves the signal as it is."
    value = known_numbers(lam)
    if value is not None and value.ndim:
        raise ValueError(
            f"`{call}` needs `lam` to be one number. Got {shown(lam)}. {remedy}"
        )
    check_given(call, FROM_ZERO, remedy, lam=lam)


def smoothed(
    p: Float[Array, "batch m"],
    raw: Float[Array, "batch m"],
    x: Float[Array, "batch n"],
    encoded: Float[Array, "batch n"],
    lam: Float[Array, ""] | float | RememberedLambda,
) -> tuple[Float[Array, "batch m"], LambdaChoice | None]:
    """The second order of correction: `p` smoothed, and where a chosen lambda came from.

    All vectors of the batch share one lambda.
    """
    choice = None
    if isinstance(lam, RememberedLambda):
        choice = lax.stop_gradient(_choose_lambda(lam, raw, p, x, encoded))
        lam = choice.lam
    return denoise(p, lam), choice


def _choose_lambda(
    memory: RememberedLambda,
    raw: Float[Array, "batch m"],
    p: Float[Array, "batch m"],
    x: Float[Array, "batch n"],
    encoded: Float[Array, "batch n"],
) -> LambdaChoice:
    """SEDMA, Eq. 6: what earlier products taught, weighed against this one's data."""
    # What is chosen depends on ratios alone, but is made of fourth powers of the products.
    unit = power_of_two(p)
    raw, p = raw / unit, p / unit
    variance = jax.vmap(product_noise)(raw, p, x, x - encoded)
    spectrum = roughness_spectrum(p, jnp.broadcast_to(variance[:, None], p.shape))
    return combine_lambda(spectrum, stein_lambda(spectrum), memory)


def correct(
    analog: Float[Array, "twice_batch m"],
    exact: Float[Array, "twice_batch m"],
    x: Float[Array, "batch n"],
    encoded: Float[Array, "batch n"],
    lam: Float[Array, ""] | float | RememberedLambda,
    stats: ProgramStats,
    vector_stats: ProgramStats,
    *,
    single: bool,
) -> tuple[Float[Array, "*batch m"], CorrectionInfo]:
    """The corrected product and its record.

    **Arguments:**

    - `analog`: products of the crossbar with `x`, then with `x - x~`.
    - `exact`: `A x~`, then `A x`.
    - `x`, `encoded`: the input, and `x~`.
    - `single`: whether the batch is one vector that came without a batch axis.
    """
    given = not isinstance(lam, RememberedLambda)
    if given and on_host((analog, exact, x, lam)):
        y, figures, choice = *_correct_on_host(analog, exact, lam), None
    else:
        y, figures, choice = _correct(analog, exact, encoded, x, lam)
    if single:
        first = lambda v: on_device(np.asarray(v)[0]) if on_host(v) else v[0]
        y, figures = first(y), {name: first(value) for name, value in figures.items()}
    figures["lam"] = jnp.asarray(lam if choice is None else choice.lam, y.dtype)
    info = CorrectionInfo(**figures, stats=stats, vector_stats=vector_stats, choice=choice)
    return y, info


# One program for all tilings: the products are made elsewhere.
@forgettable
@jax.jit
def _correct(analog, exact, encoded, x, lam):
    first, exact = jnp.split(exact, 2)
    raw, p = correct_first_order(analog, first)
    if not isinstance(lam, RememberedLambda):
        lam = jnp.asarray(lam, p.dtype)
    y, choice = smoothed(p, raw, x, encoded, lam)
    largest = lambda v, axis: jnp.max(jnp.abs(v), axis=axis)
    figures = {
        "raw": raw,
        "relative_l2_raw": relative_error(raw, exact, safe_norm),
        "relative_l2_corrected": relative_error(y, exact, safe_norm),
        "relative_linf_raw": relative_error(raw, exact, largest),
        "relative_linf_corrected": relative_error(y, exact, largest),
    }
    return y, figures, choice


def _correct_on_host(analog, exact, lam):
    """The same for a lambda that is given, where only the smoothing is compiled.

    One program smooths signals of many lengths, in batches of many sizes.
    """
    (raw, difference), (first, exact) = (
        np.split(np.asarray(v), 2) for v in (analog, exact)
    )
    p = first + difference
    batch, length = p.shape
    filled = np.zeros((batch_bucket(batch), length_bucket(length)), p.dtype)
    filled[:batch, :length] = p
    smooth = _smooth(
        on_device(filled), jnp.asarray(lam, p.dtype), on_device(np.int32(length))
    )
    y = np.asarray(smooth)[:batch, :length]
    largest = lambda v: np.max(np.abs(v), axis=1)
    figures = {
        "raw": raw,
        "relative_l2_raw": _error_on_host(raw, exact, _norm_on_host),
        "relative_l2_corrected": _error_on_host(y, exact, _norm_on_host),
        "relative_linf_raw": _error_on_host(raw, exact, largest),
        "relative_linf_corrected": _error_on_host(y, exact, largest),
    }
    return on_device(y), {name: on_device(value) for name, value in figures.items()}


@forgettable
@jax.jit
def _smooth(p, lam, length):
    return jax.vmap(partial(denoise_kernel, lam=lam, length=length))(p)


def length_bucket(length: int) -> int:
    """The power of four from 256 up that holds a signal: a program serves all below it."""
    return max(256, 1 << -(-(length - 1).bit_length() // 2) * 2)


def _error_on_host(values, exact, norm):
    """`relative_error`, of arrays of NumPy."""
    size = norm(exact)
    return (norm(values - exact) / np.where(size == 0, 1, size)).astype(values.dtype)


def _norm_on_host(values):
    """`safe_norm` of each row of an array of NumPy."""
    top = np.max(np.abs(values), axis=1, keepdims=True).astype(np.float64)
    unit = np.where((top > 0) & np.isfinite(top), top, 1)
    return np.sqrt(np.sum((values / unit) ** 2, axis=1)) * unit[:, 0]


def relative_error(
    values: Float[Array, "batch m"], exact: Float[Array, "batch m"], norm
) -> Float[Array, " batch"]:
    """Error over the norm of the exact result; the plain error where that is zero."""
    values, exact = lax.stop_gradient((values, exact))
    size = norm(exact, axis=1)
    return norm(values - exact, axis=1) / jnp.where(size == 0, 1, size)


def encoding_array(array: tuple[int, int], batch: int) -> tuple[int, int]:
    """What inputs take of arrays of this size, one vector to a bit line.

    A power of two, so that a new batch size seldom takes a new program.
    """
    return array[0], min(array[1], 1 << (batch - 1).bit_length())
