"""Add up what programming took."""

import operator
from functools import partial, reduce

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._mappings import forgettable
from ..kernels import Count, WriteStats, add_counts, total_count


class ProgramStats(eqx.Module):
    """What programming a matrix took.

    - `per_array`: the figures of each tile, in the order of `Crossbar.weights`.
    - `pulses`: write pulses; `int(stats.pulses)` is exact.
    - `energy`: joules, of pulses and of verify reads.
    - `latency`: seconds. Arrays work side by side; where there are fewer arrays than
        tiles they are used again, pass after pass, and a pass lasts as long as its
        slowest array.
    - `write_energy`, `write_latency`: the share of the pulses.
    - `passes`: times that the arrays were used.
    - `slices`: the figures of each residual slice, in the order of programming; empty
        where there is one. Slices follow one another, so that all else adds up.

    **Example:**

        >>> _, stats = sj.program(np.eye(8), "epiram", array=4, arrays=2, key=jr.key(0))
        >>> stats.passes, len(stats.per_array.residual)  # 4 tiles on 2 arrays
        (2, 4)
        >>> bool(jnp.allclose(jnp.sum(stats.per_array.write_energy), stats.write_energy))
        True
    """

    per_array: WriteStats
    pulses: Count
    energy: Float[Array, ""]
    latency: Float[Array, ""]
    write_energy: Float[Array, ""]
    write_latency: Float[Array, ""]
    passes: int = eqx.field(static=True)
    slices: tuple["ProgramStats", ...] = ()


@forgettable
@partial(jax.jit, static_argnames=("arrays",))
def total_stats(stats: WriteStats, arrays: int | None) -> ProgramStats:
    """Add up the figures of arrays, of which at most `arrays` work at a time."""
    count = len(stats.iterations)
    arrays = max(count if arrays is None else min(arrays, count), 1)
    passes = -(-count // arrays)

    def last(latency):
        padded = jnp.pad(latency, (0, passes * arrays - count))
        return jnp.sum(jnp.max(padded.reshape(passes, arrays), axis=1))

    energy = stats.write_energy + stats.verify_energy
    return ProgramStats(
        per_array=stats,
        pulses=total_count(stats.pulses),
        energy=jnp.sum(energy),
        latency=last(stats.write_latency + stats.verify_latency),
        write_energy=jnp.sum(stats.write_energy),
        write_latency=last(stats.write_latency),
        passes=passes,
    )


def sum_stats(slices: tuple[ProgramStats, ...]) -> ProgramStats:
    """Add up the figures of slices that were programmed one after another."""
    figures = [stats.per_array for stats in slices]
    arrays = jax.tree.map(lambda *parts: jnp.concatenate(parts), *figures)
    total = lambda field: reduce(operator.add, [getattr(s, field) for s in slices])
    return ProgramStats(
        per_array=arrays,
        pulses=reduce(add_counts, [s.pulses for s in slices]),
        energy=total("energy"),
        latency=total("latency"),
        write_energy=total("write_energy"),
        write_latency=total("write_latency"),
        passes=total("passes"),
        slices=slices,
    )
