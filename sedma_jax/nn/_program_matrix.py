"""Program the weights of a layer on crossbar arrays."""

import dataclasses
from collections.abc import Callable
from typing import Any, Unpack

import jax.lax as lax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import check_progress, technology_of
from .._crossbar.abstract_crossbar import check_converters
from .._crossbar.converters import ADC, DAC
from .._keys import check_key
from .._products.correction import BASELINE_LAMBDA, check_lambda
from .._programming.options import (
    Programming,
    ProgrammingOptions,
    Progress,
    encoding_of,
    programming_from,
)
from .._programming.pooled import program_pool
from .._programming.program import program_partition
from .._tiling.partition import checked_array, cut
from .._tiling.pool import PartitionPlan, Pool
from ..kernels import Device, Scheme, check_counts, whole
from ..noise_models import MeasuredArray
from ._effects import (
    Effects,
    act,
    check_effects,
    known_drift,
    known_noise,
    may_be_positive,
)
from ._groups import block_diagonal, group_blocks, occupied
from ._keys import key_words, wrapped_key
from ._matrix import AnalogMatrix, Lambda, relative_error
from ._measured import program_by_statistics
from ._slices import check_slices, program_slices

# One number for what follows programming, so that it draws independently.
_EFFECTS = 2**31


def program_matrix(
    weight: Float[Array | np.ndarray, "m n"],
    device: Device | MeasuredArray | str,
    programming: Programming | None = None,
    *,
    groups: int = 1,
    plan: PartitionPlan | Pool | None = None,
    slices: int = 1,
    cell_bits: int | None = None,
    input_bits: int | None = None,
    dac: DAC | None = None,
    adc: ADC | None = None,
    corrected: bool = False,
    lam: Lambda = BASELINE_LAMBDA,
    encoding: Scheme | Callable | None = None,
    effects: Effects | None = None,
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
    - `slices`: arrays for each tile. Each stores what the ones before missed, as in
        `sedma_jax.program_residual`; or, with `cell_bits`, some of the bits.
    - `cell_bits`: bits of the magnitude of a weight in each cell, as in
        `sedma_jax.program_bit_sliced`.
    - `input_bits`: apply inputs a bit at a time, by so many bits with sign, as in
        `sedma_jax.bit_serial_matvec`, in place of a `dac`.
    - `dac`, `adc`: converters of each product; ideal if left out.
    - `corrected`: keep the exact weights too, and correct every product to first order,
        `p = A x~ + A~ (x - x~)` with `x~` the input as cells of `device` hold it, and to
        second order, `(I + lam L^T L)^-1 p` (SEDMA, Eq. 5). `A x~` is a digital product,
        which costs as much as the exact answer.
    - `lam`: regularisation parameter of the smoothing, from 0 up, or a
        `sedma_jax.RememberedLambda`, which has it chosen for each product (SEDMA, Eq. 6).
    - `encoding`: scheme that writes `x~`; that of the weights if left out.
        `sedma_jax.sampled_rewrite` takes one draw per cell instead of a loop.
    - `effects`: what acts on the arrays after programming: stuck cells, lines, age, read
        noise. Arrays that encode inputs have none.
    - `key`: typed key of all randomness of programming.

    **Raises:**

    - `ValueError`: as `sedma_jax.program` and `sedma_jax.program_pool` do; if `lam` is
        negative or not finite; if `groups` does not divide the outputs; if anything of
        programming is asked for together with statistics; if `slices` are asked for
        together with a plan, or `input_bits` with a `dac`; if `effects` have an age, and
        nothing says how the cells drift.

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
    check_slices(slices, cell_bits, plan)
    _check_input_bits(input_bits, dac)
    if effects is not None:
        statistics = device if isinstance(device, MeasuredArray) else None
        check_effects(f"sedma_jax.{call}", effects, statistics)
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

    measured = target = None
    if isinstance(device, MeasuredArray):
        _check_statistical(how, plan)
        measured, device = device, device.device
    sliced = slices > 1 or cell_bits is not None
    if sliced:
        crossbar, stats, target = program_slices(
            matrix,
            device if measured is None else measured,
            how,
            slices=slices,
            cell_bits=cell_bits,
            key=key,
        )
    elif measured is not None:
        crossbar, target = program_by_statistics(
            tiles(), measured, mapping=how.mapping, scaling=how.scaling, key=key
        )
        stats = None
    elif plan is None:
        crossbar, stats = program_partition(
            tiles(), device, how, progress=progress, key=key
        )
    else:
        crossbar, stats = program_pool(
            matrix, plan, device, how, progress=progress, key=key
        )
    if progress is not None and (sliced or measured is not None):
        progress(1, 1)
    fresh, cells = None, None
    error = lax.stop_gradient(relative_error(crossbar, matrix))
    if effects is not None:
        cells_key, age_key = jr.split(jr.fold_in(key, _EFFECTS))
        fresh, cells = crossbar, key_words(cells_key)
        drift = known_drift(measured, effects)
        crossbar = act(
            fresh,
            effects,
            drift=drift if may_be_positive(effects.seconds) else None,
            seconds=effects.seconds,
            noise=known_noise(measured, effects),
            target=target,
            reads=effects.compensation_reads,
            cells_key=wrapped_key(cells),
            key=age_key,
        )
    scheme = how.scheme if encoding is None else encoding
    return AnalogMatrix(
        crossbar=crossbar,
        stats=stats,
        error=error,
        device=device,
        measured=measured,
        target=target,
        dac=dac,
        adc=adc,
        exact=matrix if corrected else None,
        lam=lam,
        encoding=dataclasses.replace(how, arrays=None, scheme=scheme),
        input_bits=whole(input_bits),
        effects=effects,
        fresh=fresh,
        cells=cells,
    )


def held_or_programmed(
    weight: Float[Array, "m n"],
    device: Device | MeasuredArray | AnalogMatrix | str,
    *,
    key: PRNGKeyArray,
    **options: Any,
) -> AnalogMatrix:
    """A matrix that is programmed already, or `program_matrix`."""
    if isinstance(device, AnalogMatrix):
        return device
    return program_matrix(weight, device, key=key, **options)


def _check_input_bits(input_bits: int | None, dac: DAC | None) -> None:
    if input_bits is None:
        return
    call = "sedma_jax.nn.program_matrix"
    remedy = "One of them is the sign. Leave it out for inputs through a `dac`."
    check_counts(call, 2, 24, remedy, input_bits=input_bits)
    if dac is not None:
        raise ValueError(
            f"`{call}` needs inputs through a `dac` or a bit at a time. Got {dac=} and "
            f"{input_bits=}. Leave one out: `input_bits` needs no converters of inputs."
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
