"""State of the loop of write-and-verify: cells in lanes, and how far each array is."""

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, UInt

from .._cells.pulse import Response
from .._numerics.count import Count


class Lanes(eqx.Module):
    """Cells side by side, by array and row."""

    target: Float[Array, "arrays rows lanes"]
    state: Float[Array, "arrays rows lanes"]
    pulses: Float[Array, "arrays rows lanes"]
    cell: UInt[Array, "arrays rows lanes"]
    response: Response


class Tally(eqx.Module):
    """Pulses and energies of each cell in the rounds of one loop, and its last distance.

    The distance is kept where it is not that of the state: if reads have noise, or if the
    norm of all distances may end the loop.

    The record is per cell because XLA on CPUs stores every operand of a sum or a maximum:
    sums in each round would take several times the memory traffic.
    """

    pulses: Float[Array, "arrays rows lanes"]
    write: Float[Array, "arrays rows lanes"]
    read: Float[Array, "arrays rows lanes"]
    error: Float[Array, "arrays rows lanes"] | None


class Progress(eqx.Module):
    """The progress of each array; times and pulses by row, which are added up at the end.

    - `alive`: whether it continues.
    - `settled`: squared error of the cells that earlier loops finished.
    - `norm`: root of the squared error of all cells.
    - `widest`: largest number of unfinished cells in a row.
    - `up`, `down`: longest trains of the next round.
    - `iterations`: rounds that applied pulses.
    - `write`, `read`: energy, in joules.
    - `waiting`: time of the pulses, in seconds; `reads`: rounds in which the row was read.
    - `pulses`: number of pulses.
    """

    alive: Bool[Array, " arrays"]
    settled: Float[Array, " arrays"]
    norm: Float[Array, " arrays"]
    widest: Float[Array, " arrays"]
    up: Float[Array, "arrays rows"]
    down: Float[Array, "arrays rows"]
    iterations: Int[Array, " arrays"]
    write: Float[Array, " arrays"]
    read: Float[Array, " arrays"]
    waiting: Float[Array, "arrays rows"]
    reads: Float[Array, "arrays rows"]
    pulses: Count
