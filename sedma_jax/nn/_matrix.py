"""The matrix of one layer on crossbar arrays, and its product.

The function-level interface to analog networks: `program_matrix` once, `analog_linear` and
`analog_conv` as often as wanted, in any framework whose arrays are JAX's.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Unpack

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import check_progress, technology_of
from .._crossbar.abstract_crossbar import AbstractCrossbar, check_converters
from .._crossbar.converters import ADC, DAC
from .._crossbar.crossbar import Crossbar
from .._keys import check_key
from .._products.correction import (
    BASELINE_LAMBDA,
    check_lambda,
    denoise,
    encoding_array,
    smoothed,
)
from .._programming.options import (
    Programming,
    ProgrammingOptions,
    Progress,
    encoding_of,
    programming_from,
)
from .._programming.pooled import PooledCrossbar, program_pool
from .._programming.program import program_partition
from .._programming.program_stats import ProgramStats
from .._tiling.native import as_floats
from .._tiling.partition import checked_array, cut, exact_product
from .._tiling.pool import PartitionPlan, Pool
from ..kernels import (
    Device,
    RememberedLambda,
    Scheme,
    check_kind,
    correct_first_order,
    first_order_inputs,
    image_patches,
    relative_size,
    whole,
)
from ..noise_models import MeasuredArray
from ._groups import block_diagonal, group_blocks, occupied
from ._measured import program_by_statistics

Lambda = Float[Array, ""] | float | RememberedLambda


class AnalogMatrix(eqx.Module):
    """The matrix of a layer as crossbar arrays hold it, and how it is read.

    - `crossbar`: the arrays; effects such as `sedma_jax.age` apply to it.
    - `stats`: what programming took; None where nobody published it.
    - `error`: `|A~ - A| / |A|` in the Frobenius norm, when it was programmed.
    - `device`: the technology, which encodes inputs too where products are corrected.
    - `measured`: the statistics that stand for it, or None.
    - `target`: of every cell, in siemens: what it was to hold, where `measured` is.
    - `dac`, `adc`: converters; ideal if None.
    - `exact`: `A`, kept in digital memory where products are corrected.
    - `lam`: regularisation parameter of the smoothing of corrected products.
    - `encoding`: how inputs are encoded.

    **Example:**

        >>> matrix = sj.nn.program_matrix(np.eye(4), "epiram", array=4, key=jr.key(0))
        >>> matrix.shape, matrix.draws, bool(matrix.error < 0.03)  # no noise of reads
        ((4, 4), False, True)
    """

    crossbar: AbstractCrossbar
    stats: ProgramStats | None
    error: Float[Array, ""]
    device: Device
    measured: MeasuredArray | None
    target: Float[Array, "tiles polarity rows cols"] | None
    dac: DAC | None
    adc: ADC | None
    exact: Float[Array, "m n"] | None
    lam: Lambda
    encoding: Programming

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.crossbar.shape

    @property
    def crossbars(self) -> tuple[Crossbar, ...]:
        """The arrays, those of each kind of a pool apart."""
        held: Any = self.crossbar
        if isinstance(held, PooledCrossbar):
            return tuple(bank.crossbar for bank in held.banks)
        return (held,)

    @property
    def draws(self) -> bool:
        """Whether a product is random, as far as is known when tracing."""
        return self.exact is not None or any(
            crossbar.read_variance is not None or _may_be_positive(crossbar)
            for crossbar in self.crossbars
        )


def _may_be_positive(crossbar: Crossbar) -> bool:
    sigma = crossbar.device.sigma_read
    return isinstance(sigma, Tracer) or bool(np.any(np.asarray(sigma) != 0))


def program_matrix(
    weight: Float[Array | np.ndarray, "m n"],
    device: Device | MeasuredArray | str,
    programming: Programming | None = None,
    *,
    groups: int = 1,
    plan: PartitionPlan | Pool | None = None,
    dac: DAC | None = None,
    adc: ADC | None = None,
    corrected: bool = False,
    lam: Lambda = BASELINE_LAMBDA,
    encoding: Scheme | Callable | None = None,
    progress: Progress | None = None,
    key: PRNGKeyArray,
    **options: Unpack[ProgrammingOptions],
) -> AnalogMatrix:
    """Program the weights of a layer on crossbar arrays.

    Works inside `jit`; gradients in `weight` pass straight through the error of
    programming, as in `sedma_jax.program`.

    **Arguments:**

    - `weight`: `m` outputs by `n` inputs; half precision becomes float32.
    - `device`: the technology; or published statistics, such as
        `sedma_jax.noise_models.PCM`, which leave each cell as that array would, with the
        read noise measured right after. Nothing is said then of pulses and energy.
    - `programming`, `options`, `progress`: as in `sedma_jax.program`. Statistics take the
        place of `scheme` and `rule`.
    - `groups`: with more than one, `weight` holds the blocks of a block-diagonal matrix
        one below the other, and tiles without a block are not programmed.
    - `plan`: from `sedma_jax.plan_partitions`, or a pool of arrays to be planned for, in
        place of `array` and `arrays`.
    - `dac`, `adc`: converters of each product; ideal if left out.
    - `corrected`: keep the exact weights too, and correct every product to first order,
        `p = A x~ + A~ (x - x~)` with `x~` the input as cells of `device` hold it, and to
        second order, `(I + lam L^T L)^-1 p` (SEDMA, Eq. 5). `A x~` is a digital product,
        which costs as much as the exact answer.
    - `lam`: regularisation parameter of the smoothing, from 0 up, or a
        `sedma_jax.RememberedLambda`, which has it chosen for each product (SEDMA, Eq. 6).
    - `encoding`: scheme that writes `x~`; that of the weights if left out.
        `sedma_jax.sampled_rewrite` takes one draw per cell instead of a loop.
    - `key`: typed key of all randomness of programming.

    **Raises:**

    - `ValueError`: as `sedma_jax.program` and `sedma_jax.program_pool` do; if `lam` is
        negative or not finite; if `groups` does not divide the outputs; if anything of
        programming is asked for together with statistics.

    **Example:**

        >>> A = np.array([[1.0, 2.0], [3.0, -4.0]])
        >>> adc = sj.ADC(bits=8)
        >>> matrix = sj.nn.program_matrix(A, "epiram", array=2, adc=adc, key=jr.key(0))
        >>> y = sj.nn.analog_linear(matrix, jnp.ones(2), key=jr.key(1))
        >>> bool(jnp.max(jnp.abs(y - np.array([3.0, -1.0]))) < 0.2)
        True
    """
    check_key(key)
    call = "nn.program_matrix"
    check_lambda(call, lam)
    check_converters(call, dac, adc)
    check_progress(call, progress)
    device = technology_of(call, device)
    if encoding is not None:
        encoding = encoding_of(f"sedma_jax.{call}", encoding)
    how = programming_from(call, programming, **options)
    weight = checked_array(weight, "weight", ndim=2)
    if (whole(groups) or 0) < 1 or len(weight) % groups:
        raise ValueError(
            "`sedma_jax.nn.program_matrix` needs `groups` to divide the outputs. Got "
            f"{groups=} for {len(weight)} outputs. A plain matrix has one group."
        )
    matrix = weight if groups == 1 else block_diagonal(weight, groups)

    def tiles():
        if groups == 1:
            return cut(matrix, *how.array)
        m, n = weight.shape
        return occupied(matrix, group_blocks((m, n), groups), how.array)

    stats = measured = target = None
    if isinstance(device, MeasuredArray):
        _check_statistical(how, plan)
        measured, device = device, device.device
        crossbar, target = program_by_statistics(
            tiles(), measured, mapping=how.mapping, scaling=how.scaling, key=key
        )
        if progress is not None:
            progress(1, 1)
    elif plan is None:
        crossbar, stats = program_partition(
            tiles(), device, how, progress=progress, key=key
        )
    else:
        crossbar, stats = program_pool(
            matrix, plan, device, how, progress=progress, key=key
        )
    scheme = how.scheme if encoding is None else encoding
    return AnalogMatrix(
        crossbar=crossbar,
        stats=stats,
        error=lax.stop_gradient(relative_error(crossbar, matrix)),
        device=device,
        measured=measured,
        target=target,
        dac=dac,
        adc=adc,
        exact=matrix if corrected else None,
        lam=lam,
        encoding=dataclasses.replace(how, arrays=None, scheme=scheme),
    )


def _check_statistical(how: Programming, plan: PartitionPlan | Pool | None) -> None:
    """Refuse what says how to program, where statistics say what came of it."""
    plain = Programming()
    chosen = {"plan": plan}
    for field in ("arrays", "scheme", "rule"):
        value = getattr(how, field)
        chosen[field] = None if value is getattr(plain, field) else value
    asked = {name: value for name, value in chosen.items() if value is not None}
    if asked:
        raise ValueError(
            "`sedma_jax.nn.program_matrix` needs a `Device` for a scheme, a rule, a plan "
            f"or a number of arrays. Got {asked} with published statistics, which include "
            "all that programming did. Leave it out, or name a `Device`."
        )


@jax.jit
def relative_error(
    crossbar: AbstractCrossbar, matrix: Float[Array, "m n"]
) -> Float[Array, ""]:
    """`|A~ - A| / |A|` in the Frobenius norm; the plain error where that is zero."""
    return relative_size(crossbar.stored_matrix() - matrix, matrix)


def check_single(matrix: AnalogMatrix) -> None:
    """Refuse the matrices of layers that `vmap` stacked, outside of it."""
    if jnp.ndim(matrix.error):
        raise ValueError(
            "An analog layer needs one matrix. Got those of layers that are stacked, "
            f"{jnp.shape(matrix.error)}. Take them one by one, by `scan` or `vmap`."
        )


def held_matrix(matrix: AnalogMatrix) -> Float[Array, "m n"]:
    """The matrix that the arrays multiply with, read without noise."""
    check_single(matrix)
    return matrix.crossbar.stored_matrix()


def multiply(
    matrix: AnalogMatrix, x: Float[Array, "batch n"], *, key: PRNGKeyArray
) -> Float[Array, "batch m"]:
    """Multiply vectors by a programmed matrix, corrected if it keeps its exact weights.

    Noise is drawn anew for each vector. In contrast to `sedma_jax.matvec` values are not
    checked: NaN propagates.

    **Arguments:**

    - `matrix`: from `program_matrix`.
    - `x`: vectors, of any floating dtype; the result has that of the weights.
    - `key`: typed key of the read noise, and of the encoding of corrected products.

    **Raises:**

    - `ValueError`: if `x` is complex.

    **Example:**

        >>> matrix = sj.nn.program_matrix(np.eye(4), "epiram", array=4, key=jr.key(0))
        >>> x = jr.normal(jr.key(1), (3, 4))
        >>> y = sj.nn.multiply(matrix, x, key=jr.key(2))
        >>> y.shape, bool(jnp.max(jnp.abs(y - x)) < 0.2)
        ((3, 4), True)
    """
    check_single(matrix)
    check_real(x)
    held, dac, adc, exact = matrix.crossbar, matrix.dac, matrix.adc, matrix.exact
    if exact is None:
        return held.read(x, dac, adc, key)
    x = x.astype(exact.dtype)
    vector_key, read_key = jr.split(key)
    encoded = _encode(matrix, x, vector_key)
    first = exact_product(exact, encoded)
    inputs = first_order_inputs(x, encoded)
    if not isinstance(matrix.lam, RememberedLambda):
        # The plain product is of no use then, and is not read.
        difference = held.read(inputs[len(x) :], dac, adc, read_key)
        return denoise(first + difference, matrix.lam)
    raw, p = correct_first_order(held.read(inputs, dac, adc, read_key), first)
    return smoothed(p, raw, x, encoded, matrix.lam)[0]


def check_real(x: Array) -> None:
    """Refuse complex inputs, whose imaginary part a conversion would drop."""
    if jnp.iscomplexobj(x):
        raise ValueError(
            f"An analog layer needs real `x`. Got dtype {x.dtype}. Multiply the real and "
            "the imaginary part one after the other, each with a key of its own."
        )


def _encode(matrix, x, key):
    """Inputs as cells hold them, one vector to a bit line."""
    how = matrix.encoding
    tiles = cut(x, *encoding_array(how.array, len(x)))
    if matrix.measured is not None:
        encoded, _ = program_by_statistics(
            tiles, matrix.measured, mapping=how.mapping, scaling=how.scaling, key=key
        )
        return encoded.stored_matrix()
    encoded, _ = program_partition(tiles, matrix.device, how, key=key)
    return encoded.stored_matrix()


def _check_matrix(name: str, matrix: AnalogMatrix) -> None:
    remedy = "`sedma_jax.nn.program_matrix(weight, device, key=key)` makes one."
    call = f"sedma_jax.nn.{name}"
    check_kind(call, AnalogMatrix, "an `AnalogMatrix`", remedy, matrix=matrix)


def analog_linear(
    matrix: AnalogMatrix,
    x: Float[Array, "*batch n"],
    bias: Float[Array, " m"] | None = None,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "*batch m"]:
    """`A~ x + b`, the bias added digitally.

    **Arguments:**

    - `matrix`: from `program_matrix`.
    - `x`: one vector or any number of them; each has noise of its own.
    - `bias`: of each output.
    - `key`: typed key of the randomness of the product.

    **Raises:**

    - `ValueError`: if `x` does not fit the matrix, or `key` is not a typed key.

    **Example:**

        >>> matrix = sj.nn.program_matrix(2 * np.eye(4), "epiram", array=4, key=jr.key(0))
        >>> y = sj.nn.analog_linear(matrix, jnp.ones(4), jnp.full(4, 3.0), key=jr.key(1))
        >>> bool(jnp.max(jnp.abs(y - 5)) < 0.1)  # 2 x 1 + 3
        True
    """
    check_key(key)
    _check_matrix("analog_linear", matrix)
    m, n = matrix.shape
    if x.ndim == 0 or x.shape[-1] != n:
        raise ValueError(
            f"An analog layer with {n} inputs needs `x` to end in an axis of that size. "
            f"Got shape {x.shape}. Batches come first."
        )
    y = multiply(matrix, x.reshape(-1, n), key=key).reshape(*x.shape[:-1], m)
    if bias is None:
        return y
    return y + jnp.broadcast_to(as_floats(bias, "bias"), y.shape)


def analog_conv(
    matrix: AnalogMatrix,
    x: Float[Array, "channels ..."],
    bias: Float[Array, "outputs ..."] | None = None,
    *,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    key: PRNGKeyArray,
) -> Float[Array, "outputs ..."]:
    """Convolution of one image: every patch is one product with the matrix (im2col).

    **Arguments:**

    - `matrix`: a filter in each row: channels, then the axes of the kernel.
    - `x`: channels first, then as many axes as `kernel_size` has.
    - `bias`: of each output channel, of a shape that adds to the result.
    - `kernel_size`, `stride`, `padding`, `dilation`: of each axis, as
        `sedma_jax.kernels.image_patches` takes them.
    - `key`: typed key; each patch has noise of its own.

    **Raises:**

    - `ValueError`: if `x` does not fit the matrix, or `key` is not a typed key.

    **Example:**

        >>> means = np.full((1, 4), 0.25)  # a filter of 2 x 2
        >>> matrix = sj.nn.program_matrix(means, "epiram", array=4, key=jr.key(0))
        >>> size = dict(kernel_size=(2, 2), stride=(2, 2), padding="VALID", dilation=(1, 1))
        >>> y = sj.nn.analog_conv(matrix, jnp.ones((1, 4, 4)), **size, key=jr.key(1))
        >>> y.shape, bool(jnp.max(jnp.abs(y - 1)) < 0.05)
        ((1, 2, 2), True)
    """
    check_key(key)
    _check_matrix("analog_conv", matrix)
    check_real(x)
    m, n = matrix.shape
    channels = n // int(np.prod(kernel_size))
    if x.ndim != len(kernel_size) + 1 or x.shape[0] != channels:
        raise ValueError(
            f"An analog convolution needs `x` with {channels} channels and "
            f"{len(kernel_size)} axes behind. Got shape {x.shape}. Use `jax.vmap` for "
            "batches."
        )
    cut_out = image_patches(x, kernel_size, stride, padding, dilation)
    y = multiply(matrix, cut_out.reshape(n, -1).T, key=key).T
    y = y.reshape(m, *cut_out.shape[1:])
    return y if bias is None else y + as_floats(bias, "bias")
