"""The matrix of one layer on crossbar arrays, and its product.

The function-level interface to analog networks: `program_matrix` once, `analog_linear` and
`analog_conv` as often as wanted, in any framework whose arrays are JAX's.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

from .._crossbar.abstract_crossbar import AbstractCrossbar
from .._crossbar.bit_serial import bit_serial_matvec
from .._crossbar.converters import ADC, DAC
from .._crossbar.crossbar import Crossbar
from .._keys import check_key
from .._products.correction import (
    denoise,
    encoding_array,
    smoothed,
)
from .._programming.options import (
    Programming,
)
from .._programming.pooled import PooledCrossbar, read_banks
from .._programming.program import program_partition
from .._programming.program_stats import ProgramStats
from .._tiling.native import as_floats
from .._tiling.partition import cut, exact_product
from ..kernels import (
    Device,
    RememberedLambda,
    check_kind,
    correct_first_order,
    first_order_inputs,
    image_patches,
    relative_size,
)
from ..noise_models import MeasuredArray
from ._effects import Effects
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
    - `input_bits`: of inputs that are applied a bit at a time, or None.
    - `effects`: what acts on the arrays after programming, or None.
    - `fresh`, `cells`: the arrays before that, and the key of their stuck cells.

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
    input_bits: int | None = eqx.field(static=True, default=None)
    effects: Effects | None = None
    fresh: AbstractCrossbar | None = None
    cells: UInt32[Array, "2"] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.crossbar.shape

    @property
    def crossbars(self) -> tuple[Crossbar, ...]:
        """The arrays, those of each kind of a pool apart."""
        return arrays_of(self.crossbar)

    @property
    def draws(self) -> bool:
        """Whether a product is random, as far as is known when tracing."""
        return self.exact is not None or any(
            crossbar.read_variance is not None or _may_be_positive(crossbar)
            for crossbar in self.crossbars
        )


def arrays_of(held: Any) -> tuple[Crossbar, ...]:
    """The arrays of each kind."""
    if isinstance(held, PooledCrossbar):
        return tuple(bank.crossbar for bank in held.banks)
    return (held,)


def _may_be_positive(crossbar: Crossbar) -> bool:
    sigma = crossbar.device.sigma_read
    return isinstance(sigma, Tracer) or bool(np.any(np.asarray(sigma) != 0))


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
    exact = matrix.exact
    if exact is None:
        return _read(matrix, x, key)
    x = x.astype(exact.dtype)
    vector_key, read_key = jr.split(key)
    encoded = _encode(matrix, x, vector_key)
    first = exact_product(exact, encoded)
    inputs = first_order_inputs(x, encoded)
    if not isinstance(matrix.lam, RememberedLambda):
        # The plain product is of no use then, and is not read.
        difference = _read(matrix, inputs[len(x) :], read_key)
        return denoise(first + difference, matrix.lam)
    raw, p = correct_first_order(_read(matrix, inputs, read_key), first)
    return smoothed(p, raw, x, encoded, matrix.lam)[0]


def _read(
    matrix: AnalogMatrix, x: Float[Array, "batch n"], key: PRNGKeyArray
) -> Float[Array, "batch m"]:
    """One product, through a DAC or a bit at a time."""
    held, adc, bits = matrix.crossbar, matrix.adc, matrix.input_bits
    if bits is None:
        return held.read(x, matrix.dac, adc, key)

    def read_bits(crossbar: Crossbar, x: Array, key: PRNGKeyArray) -> Array:
        return bit_serial_matvec(crossbar, x, bits=bits, adc=adc, key=key)

    if isinstance(held, PooledCrossbar):
        return read_banks(held, x, key, read_bits)
    crossbar: Any = held
    return read_bits(crossbar, x, key)


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
