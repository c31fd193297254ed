"""Multiply with both stages of error correction."""

import dataclasses
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import check_progress, device_of
from .._crossbar.abstract_crossbar import (
    AbstractCrossbar,
    check_converters,
    check_readable,
)
from .._crossbar.converters import ADC, DAC
from .._crossbar.crossbar import Crossbar, check_vector, stored_matrix, stored_on_host
from .._functions import on_device, on_host
from .._keys import check_key, split_key
from .._mappings import forgettable
from .._programming.options import (
    Programming,
    ProgrammingOptions,
    Progress,
    programming_from,
)
from .._programming.program import program_partition
from .._programming.program_stats import ProgramStats
from .._tiling.partition import (
    Matrix,
    Partition,
    Sparse,
    Vectors,
    assemble,
    check_grid,
    checked_array,
    cut,
    exact_product,
    partition,
)
from ..kernels import Device, RememberedLambda, first_order_inputs, shown
from .correction import (
    BASELINE_LAMBDA,
    CorrectionInfo,
    check_lambda,
    correct,
    encoding_array,
)

# Entries up to which NumPy multiplies in less time than XLA takes to compile the product.
_SMALL = 2**20


def corrected_matvec(
    A: Matrix,
    x: Vectors,
    device: Device | str,
    programming: Programming | None = None,
    *,
    lam: Float[Array, ""] | float | RememberedLambda = BASELINE_LAMBDA,
    dac: DAC | None = None,
    adc: ADC | None = None,
    analog_matrix: bool = False,
    programmed: tuple[AbstractCrossbar, ProgramStats] | None = None,
    progress: Progress | None = None,
    key: PRNGKeyArray,
    **options: Unpack[ProgrammingOptions],
) -> tuple[Float[Array, "*batch m"], CorrectionInfo]:
    """Program a matrix, multiply, and correct to first and second order.

    The input is encoded on cells of the same device, `x~`, once for each vector. Then
    `p = A x~ + A~ (x - x~)` costs one product with each of `A` and `A~`, and leaves the
    product of the two errors; `denoise` smooths it. This is the `physical` accounting:
    all effects of the device are on, and every event counts once.

    **Arguments:**

    - `A`, `device`, `programming`, `options`, `progress`: as in `program`. `x`, `dac`,
        `adc`: as in `matvec`.
    - `lam`: regularisation parameter of the smoothing, from 0 up. The default is that of
        MELISO+. A `RememberedLambda` has it chosen for this product by Stein's unbiased
        estimate of the risk, together with what is remembered of earlier ones (SEDMA,
        Eq. 6); an empty one has the data decide alone. The batch shares one value.
    - `analog_matrix`: `A x~` needs the exact matrix. With false it is a digital product,
        which costs as much as the exact answer. With true it is read from the cells
        that hold `x~`, with the rows of `A` as inputs, `m` analog products that
        inherit the errors of the converters and of reading.
    - `programmed`: what `program(A, device)` or `program_pool(A, pool)` returned, to be
        used again. Then `device` and `programming` only say how the input is encoded.
    - `key`: typed key of all randomness.

    **Returns:**

    The corrected product, and its record.

    **Raises:**

    - `ValueError`: as `program`, `matvec` and `denoise` do.

    **Example:**

        >>> A, x = np.eye(16), np.linspace(1, 2, 16)
        >>> y, info = sj.corrected_matvec(A, x, "epiram", lam=0.0, array=16, key=jr.key(0))
        >>> bool(info.relative_l2_corrected < info.relative_l2_raw / 10)
        True
    """
    check_key(key)
    check_lambda("corrected_matvec", lam)
    check_converters("corrected_matvec", dac, adc)
    check_progress("corrected_matvec", progress)
    device = device_of("corrected_matvec", device)
    how = programming_from("corrected_matvec", programming, **options)
    # Cut into tiles only to be programmed: a dense matrix multiplies faster as it is.
    operand = (
        partition(A, *how.array) if isinstance(A, Sparse) else checked_array(A, "A", ndim=2)
    )
    x = check_vector(x, operand)
    x = x.astype(operand.tiles.dtype if isinstance(operand, Partition) else operand.dtype)
    vectors = on_device(np.atleast_2d(x)) if on_host(x) else jnp.atleast_2d(x)
    matrix_key, vector_key, read_key = split_key(key, 3)
    if programmed is None:
        parts = operand
        if not isinstance(parts, Partition):
            check_grid(*how.array, parts.shape)
            parts = cut(parts, *how.array)
        programmed = program_partition(
            parts, device, how, progress=progress, key=matrix_key
        )
    if not isinstance(programmed, tuple | list) or len(programmed) != 2:
        raise ValueError(
            "`sedma_jax.corrected_matvec` needs `programmed` to be a crossbar and its "
            f"figures. Got {shown(programmed)}. Pass all that `program` returned."
        )
    crossbar, stats = programmed
    check_readable("corrected_matvec", crossbar)
    if crossbar.shape != operand.shape:
        raise ValueError(
            "`sedma_jax.corrected_matvec` needs `programmed` to hold `A`. Got shapes "
            f"{crossbar.shape} and {operand.shape}. Leave it out to program `A` anew."
        )
    parts = cut(vectors, *encoding_array(how.array, len(vectors)))
    # The arrays that hold inputs are others than those that hold the matrix.
    encoding = dataclasses.replace(how, arrays=None)
    encoded, vector_stats = program_partition(parts, device, encoding, key=vector_key)
    x_tilde, inputs = _encoded_inputs(encoded, vectors)
    analog_key, encoded_key = split_key(read_key)
    # Each step is a program of its own, which other products share.
    analog = crossbar.read(inputs, dac, adc, analog_key)
    if analog_matrix:
        matrix = operand
        if isinstance(operand, Partition):
            matrix = assemble(operand.tiles, operand)
        first = encoded.read(matrix, dac, adc, encoded_key).T
        exact = jnp.concatenate([first, _exact(operand, vectors)])
    else:
        exact = _exact(operand, x_tilde, vectors)
    taken = stats, vector_stats
    return correct(analog, exact, vectors, x_tilde, lam, *taken, single=x.ndim == 1)


def _encoded_inputs(
    encoded: Crossbar, x: Float[Array, "batch n"]
) -> tuple[Float[Array, "batch n"], Float[Array, "twice_batch n"]]:
    """`x~` as cells hold it, and what the arrays of the matrix multiply."""
    if not on_host((encoded, x)):
        x_tilde = stored_matrix(encoded)
        return x_tilde, first_order_inputs(x, x_tilde)
    # On the host, since compiled each length would take a program.
    x_tilde, given = stored_on_host(encoded), np.asarray(x)
    inputs = np.concatenate([given, given - x_tilde])
    return on_device(x_tilde), on_device(inputs)


def _exact(
    A: Partition | Float[Array, "m n"], *x: Float[Array, "batch n"]
) -> Float[Array, "vectors m"]:
    """`A x` at full precision, for all vectors."""
    if isinstance(A, Partition) or A.size > _SMALL or not on_host((A, x)):
        return _exact_program(A, jnp.concatenate(x))
    vectors = np.concatenate([np.asarray(v) for v in x])
    return on_device((np.asarray(A) @ vectors.T).T)


_exact_program = forgettable(jax.jit(exact_product))
