"""Share the weights of a layer between several arrays a tile, also by statistics."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._crossbar.crossbar import Crossbar
from .._crossbar.effects import holding, perturb
from .._crossbar.read_effects import with_read_noise
from .._programming.bit_slicing import program_bit_sliced
from .._programming.error_free import exact_partition
from .._programming.options import Programming
from .._programming.program_stats import ProgramStats
from .._programming.residual import join_slices, program_residual
from .._tiling.partition import cut
from .._tiling.pool import PartitionPlan, Pool
from ..kernels import (
    Device,
    Response,
    VerifyRule,
    WriteStats,
    check_counts,
    hidden_state,
    read_noise,
)
from ..noise_models import MeasuredArray

# Slices take numbers from here, as in `program_residual`.
_SLICE = 2**31

Targets = Float[Array, "tiles polarity rows cols"]


def check_slices(
    slices: int, cell_bits: int | None, plan: PartitionPlan | Pool | None
) -> None:
    """Refuse numbers of slices or bits that there cannot be, and slices of a pool."""
    call = "sedma_jax.nn.program_matrix"
    check_counts(call, 1, 2**20, "One array for each tile is the least.", slices=slices)
    if cell_bits is not None:
        remedy = "Leave it out for slices that store what the ones before missed."
        check_counts(call, 1, 23, remedy, cell_bits=cell_bits)
    if plan is not None and (slices > 1 or cell_bits is not None):
        raise ValueError(
            f"`{call}` needs arrays of one kind for slices. Got {slices=}, {cell_bits=} "
            "and a plan. Leave `plan` out, or program one slice."
        )


def program_slices(
    matrix: Float[Array, "m n"],
    device: Device | MeasuredArray,
    how: Programming,
    *,
    slices: int,
    cell_bits: int | None,
    key: PRNGKeyArray,
) -> tuple[Crossbar, ProgramStats | None, Targets | None]:
    """The arrays of all slices, what programming took, and the targets of statistics."""
    if isinstance(device, MeasuredArray):
        by_statistics = _residual if cell_bits is None else _bits
        own: Any = {} if cell_bits is None else {"cell_bits": cell_bits}
        crossbar, target = by_statistics(matrix, device, how, slices, key=key, **own)
        if device.read is not None:
            crossbar = with_read_noise(crossbar, device.read)
        return crossbar, None, target
    if cell_bits is None:
        return *program_residual(matrix, device, how, slices=slices, key=key), None
    bits: Any = dict(cell_bits=cell_bits, slices=slices)
    return *program_bit_sliced(matrix, device, how, **bits, key=key), None


def _bits(
    matrix: Float[Array, "m n"],
    measured: MeasuredArray,
    how: Programming,
    slices: int,
    *,
    cell_bits: int,
    key: PRNGKeyArray,
) -> tuple[Crossbar, Targets]:
    exactly = dataclasses.replace(how, scheme=_at_target)
    exact, _ = program_bit_sliced(
        matrix, measured.device, exactly, cell_bits=cell_bits, slices=slices, key=key
    )
    return perturb(exact, measured.programming, key=key), exact.conductance


def _residual(
    matrix: Float[Array, "m n"],
    measured: MeasuredArray,
    how: Programming,
    slices: int,
    *,
    key: PRNGKeyArray,
) -> tuple[Crossbar, Targets]:
    """Each slice stores what a noisy reading of the ones before lacks."""
    held, targets, left = [], [], matrix
    for number in range(slices):
        slice_key = key if number == 0 else jr.fold_in(key, _SLICE + number)
        exact = exact_partition(
            cut(left, *how.array),
            measured.device,
            mapping=how.mapping,
            scaling=how.scaling,
        )
        programmed = perturb(exact, measured.programming, key=slice_key)
        held.append(programmed)
        targets.append(exact.conductance)
        if number + 1 < slices:
            read_key = jr.fold_in(slice_key, _SLICE)
            left = left - _reading(programmed, measured, read_key).stored_matrix()
    return join_slices(tuple(held)), jnp.concatenate(targets)


def _reading(crossbar: Crossbar, measured: MeasuredArray, key: PRNGKeyArray) -> Crossbar:
    """What one reading of every cell makes of the arrays."""
    if measured.read is None:
        return crossbar
    g = crossbar.conductance
    return holding(crossbar, read_noise(measured.read, g, 0.0, g, key=key))


def _at_target(
    target: Float[Array, "polarity rows cols"],
    initial: Float[Array, "polarity rows cols"],
    used: Bool[Array, "rows cols"],
    device: Device,
    response: Response,
    rule: VerifyRule,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "polarity rows cols"], WriteStats]:
    """A scheme without pulses: statistics say what they left."""
    del response, rule, key
    state = jnp.where(used[None], hidden_state(target, device), initial)
    nothing, none = jnp.zeros((), target.dtype), jnp.zeros((), jnp.int32)
    return state, WriteStats(
        pulses=none,
        iterations=none,
        write_energy=nothing,
        verify_energy=nothing,
        write_latency=nothing,
        verify_latency=nothing,
        unfinished=none,
        residual=nothing,
    )
