"""Energy, latency and area of an analog matrix-vector product.

A product takes a number of *reads*. One read drives the word lines of one array with one
slice of the input bits and converts every bit line, so that

    reads = tiles * slices * phases * batch,     phases = ceil(input_bits / dac_bits),

and each component spends its energy a fixed number of times per read. The structure is
that of ISAAC (Shafiee et al. 2016, ISCA, 14, section V): bit-serial inputs, sliced
weights, sampled bit lines that share a converter, and digital shift-and-add.

Not modelled: traffic between tiles and off the chip, static leakage, clock and control,
the reference and the bias column of offset mappings, and programming (whose cost `program`
reports). Edge tiles count as full ones. One weight slice fills one array.
"""

import math
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._cells.device import Scalar
from .._numerics.requirements import check_counts
from .cost_model import CostModel


class MvmWorkload(eqx.Module):
    """The products `y = A x` to be costed, as counts. All fields are static.

    - `outputs`, `inputs`: shape of `A`.
    - `rows`, `cols`: word lines and weight columns of one array.
    - `batch`: number of vectors.
    - `input_bits`, `dac_bits`: bits of an input, and bits applied in one read.
    - `adc_bits`: resolution of the conversion.
    - `slices`: number of arrays that share the bits of a weight.
    - `polarities`: cells per weight in an array, 2 for a differential pair.
    - `conversions`: conversions per weight column and read: 1 if the currents of the pair
        are subtracted, 2 if both bit lines are converted.
    - `columns_per_adc`: conversions of one read that share a converter.
    - `tiles`: arrays per slice of the matrix; by default as many as cover `A`. For a
        sparse matrix, give the number of nonzero tiles.
    - `arrays`: arrays that exist; by default as many as the matrix needs. With fewer,
        they are reused in passes.
    - `pipelined`: whether one read is converted while the next is taken.

    **Raises:** `ValueError` for a count below 1.

    **Example:**

        >>> work = sj.kernels.MvmWorkload(outputs=512, inputs=300, rows=128, cols=128)
        >>> work.mapped_arrays, work.phases  # 3 x 4 tiles; 8 input bits, one at a time
        (12, 8)
    """

    outputs: int = eqx.field(static=True)
    inputs: int = eqx.field(static=True)
    rows: int = eqx.field(static=True)
    cols: int = eqx.field(static=True)
    batch: int = eqx.field(static=True, default=1)
    input_bits: int = eqx.field(static=True, default=8)
    dac_bits: int = eqx.field(static=True, default=1)
    adc_bits: int = eqx.field(static=True, default=8)
    slices: int = eqx.field(static=True, default=1)
    polarities: int = eqx.field(static=True, default=2)
    conversions: int = eqx.field(static=True, default=1)
    columns_per_adc: int = eqx.field(static=True, default=8)
    tiles: int | None = eqx.field(static=True, default=None)
    arrays: int | None = eqx.field(static=True, default=None)
    pipelined: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        call, optional = "sedma_jax.kernels.MvmWorkload", ("tiles", "arrays")
        for name, value in vars(self).items():
            if name != "pipelined" and not (value is None and name in optional):
                check_counts(call, 1, math.inf, "It is a count.", **{name: value})

    @property
    def phases(self) -> int:
        """Reads that one input vector takes on one array."""
        return math.ceil(self.input_bits / self.dac_bits)

    @property
    def mapped_arrays(self) -> int:
        """Arrays that hold the matrix, all slices included."""
        tiles = self.tiles
        if tiles is None:
            tiles = math.ceil(self.inputs / self.rows) * math.ceil(self.outputs / self.cols)
        return tiles * self.slices

    @property
    def built_arrays(self) -> int:
        """Arrays that exist."""
        return self.mapped_arrays if self.arrays is None else self.arrays

    @property
    def passes(self) -> int:
        """How often the arrays are used to cover the matrix once."""
        return math.ceil(self.mapped_arrays / self.built_arrays)


class MvmCost(eqx.Module):
    """The cost of an `MvmWorkload`, by component.

    - `energy_*`: energy, in joules, for the whole batch. `energy_adc` includes the sample
        and hold, `energy_digital` the accumulator.
    - `latency_read`, `latency_adc`: time on the critical path, in seconds, from the
        first bit applied to the last conversion of the batch. Neither includes what a
        pipeline hides.
    - `area_*`: area, in square metres, of the arrays that exist.
    - `operations`: `2 m n` per vector, whatever the number of bits.

    **Example:**

        >>> work = sj.kernels.MvmWorkload(outputs=128, inputs=128, rows=128, cols=128)
        >>> cost = sj.kernels.mvm_cost(
        ...     sj.costs.ISAAC_32NM, work, read_energy=sj.costs.ISAAC_READ_ENERGY,
        ...     mean_square_voltage=0.0, t_read=100e-9,
        ... )
        >>> print(int(cost.operations))  # 2 m n
        32768
        >>> max(cost.energy_breakdown, key=cost.energy_breakdown.get)
        'adc'
    """

    energy_array: Scalar
    energy_drivers: Scalar
    energy_dac: Scalar
    energy_adc: Scalar
    energy_digital: Scalar
    energy_buffer: Scalar
    latency_read: Scalar
    latency_adc: Scalar
    area_array: Scalar
    area_drivers: Scalar
    area_dac: Scalar
    area_adc: Scalar
    area_digital: Scalar
    operations: Scalar

    @property
    def energy_breakdown(self) -> Mapping[str, Scalar]:
        """Energy of each component, in joules."""
        return self._parts("energy_")

    @property
    def area_breakdown(self) -> Mapping[str, Scalar]:
        """Area of each component, in square metres."""
        return self._parts("area_")

    @property
    def energy(self) -> Scalar:
        """Total, in joules."""
        return sum(self.energy_breakdown.values())

    @property
    def latency(self) -> Scalar:
        """Total, in seconds."""
        return self.latency_read + self.latency_adc

    @property
    def area(self) -> Scalar:
        """Total, in square metres."""
        return sum(self.area_breakdown.values())

    @property
    def tops_per_watt(self) -> Scalar:
        """Tera-operations per joule."""
        return self.operations / self.energy * 1e-12

    @property
    def tops_per_mm2(self) -> Scalar:
        """Tera-operations per second and square millimetre."""
        return self.operations / self.latency / self.area * 1e-18

    def _parts(self, prefix: str) -> dict[str, Scalar]:
        return {
            name.removeprefix(prefix): value
            for name, value in vars(self).items()
            if name.startswith(prefix)
        }


def array_read_energy(
    conductance: Float[Array, "*#lead polarity rows cols"],
    voltages: Float[Array, "*#lead rows"],
    t_read: Scalar,
) -> Float[Array, " *lead"]:
    """Joule heat of one read in ideal wires: `sum_ijp V_i^2 G_pij t`.

    **Arguments:**

    - `conductance`: conductance of every cell, in siemens, with its access transistor in
        series (`series_conductance`). Polarities carry voltages of equal magnitude.
    - `voltages`: word-line voltages, in volts. Leading axes broadcast with those of
        `conductance`, so that one call takes a batch or the phases of a bit-serial input.
    - `t_read`: time for which the voltage is applied, in seconds.

    **Returns:**

    Energy, in joules, per index of the leading axes.

    **Example:**

        >>> g = jnp.full((2, 4, 3), 1e-5)  # pairs of cells of 10 uS
        >>> joules = sj.kernels.array_read_energy(g, jnp.full(4, 0.5), 5e-9)
        >>> print(np.asarray(1e15 * joules).round(3))  # fJ: 24 cells, 10 uS, 0.5 V
        300.0
    """
    return expected_read_energy(conductance, voltages**2, t_read)


def expected_read_energy(
    conductance: Float[Array, "*#lead polarity rows cols"],
    mean_square_voltage: Float[Array, "*#lead rows"],
    t_read: Scalar,
) -> Float[Array, " *lead"]:
    """Mean of `array_read_energy` over random inputs: `sum_ijp E[V_i^2] G_pij t`.

    The mean is exact for any joint distribution of the voltages, since the heat is linear
    in their squares. A bit-serial input bit that is set with probability `q` has
    `E[V^2] = q V^2`;
    an analog input uniform in `(-V, V)` has `V^2 / 3`.

    **Arguments:**

    - `conductance`, `t_read`: as for `array_read_energy`.
    - `mean_square_voltage`: mean square voltage of each word line, in square volts.

    **Returns:**

    Mean energy, in joules, per index of the leading axes.

    **Example:**

        >>> g = jnp.full((2, 4, 3), 1e-5)
        >>> square = jnp.full(4, 0.5**2 / 3)  # inputs uniform from -0.5 to 0.5 V
        >>> joules = sj.kernels.expected_read_energy(g, square, 5e-9)
        >>> print(np.asarray(1e15 * joules).round(3))  # fJ
        100.0
    """
    return t_read * jnp.einsum(
        "...pij,...i->...",
        conductance,
        mean_square_voltage,
        precision=lax.Precision.HIGHEST,
    )


def settling_time(
    model: CostModel, rows: int, cols: int, bits: int
) -> Float[Array, ""] | float:
    """Time for an array's lines to settle to half a step of `bits` bits, in seconds.

    A line of `n` cells behind a driver of resistance `R` has the Elmore delay
    `tau = n c (R + n r / 2)` (Elmore 1948, J. Appl. Phys. 19, 55), and an exponential
    is within half a step after `(bits + 1) ln 2` time constants. The bit line ends in a
    virtual ground and has no driver. `cols` counts the cells along a word line.
    """
    r, c = model.geometry.r_cell, model.geometry.c_cell
    word_line = cols * c * (model.driver.resistance + cols * r / 2)
    bit_line = rows**2 * r * c / 2
    return (bits + 1) * math.log(2) * (word_line + bit_line)


def mvm_cost(
    model: CostModel,
    workload: MvmWorkload,
    *,
    read_energy: Scalar,
    mean_square_voltage: Scalar,
    t_read: Scalar,
) -> MvmCost:
    """Compute the cost of the products of a workload.

    One read takes the conversion time of a DAC, the settling of the lines and `t_read`;
    its bit lines then take `columns_per_adc` conversions in turn. Reads follow each
    other over phases, passes and vectors; arrays work in parallel. Shift-and-add keeps
    pace with the converters.

    **Arguments:**

    - `model`: constants, e.g. `sedma_jax.costs.ISAAC_32NM`.
    - `workload`: the products.
    - `read_energy`: mean heat in the cells of one array in one read, in joules, e.g.
        the mean of `array_read_energy` over tiles, phases and vectors.
    - `mean_square_voltage`: mean square voltage of the word lines in one read, in square
        volts.
    - `t_read`: time for which the voltage is applied after settling, in seconds.

    **Returns:**

    An `MvmCost` of the dtype of the constants, differentiable in all of them.

    **Example:**

        >>> work = sj.kernels.MvmWorkload(outputs=128, inputs=128, rows=128, cols=128)
        >>> cost = sj.kernels.mvm_cost(
        ...     sj.costs.ISAAC_32NM, work, read_energy=sj.costs.ISAAC_READ_ENERGY,
        ...     mean_square_voltage=0.0, t_read=100e-9,
        ... )
        >>> print(np.asarray(1e9 * cost.latency_read).round(1))  # ns: 8 phases of 100 ns
        800.0
    """
    w = workload
    # Counts exceed 2^31 in ordinary workloads, so they are floats from here on.
    arrays, built = float(w.mapped_arrays), float(w.built_arrays)
    reads = arrays * w.phases * w.batch
    steps = float(w.passes * w.phases * w.batch)
    converted = w.cols * w.conversions
    shared = min(w.columns_per_adc, converted)
    line_cells = w.cols * w.polarities
    dac_elements = 2.0**w.dac_bits - 1

    e_conversion = (
        model.adc.e_fixed
        + model.adc.e_step * 2.0**w.adc_bits
        + model.adc.e_thermal * 4.0**w.adc_bits
        + model.adc.e_hold
    )
    c_line = model.driver.capacitance + line_cells * model.geometry.c_cell
    settling = settling_time(model, w.rows, line_cells, w.adc_bits)
    stages = (model.dac.time + settling + t_read, shared / model.adc.rate)
    read_path, adc_path = _critical_path(stages, steps, w.pipelined)

    cost = MvmCost(
        energy_array=reads * read_energy,
        energy_drivers=reads * w.rows * c_line * mean_square_voltage,
        energy_dac=reads * w.rows * dac_elements * model.dac.e_unit,
        energy_adc=reads * converted * e_conversion,
        energy_digital=reads * converted * (model.digital.e_add + model.digital.e_register),
        energy_buffer=reads * w.rows * w.dac_bits * model.digital.e_buffer,
        latency_read=read_path,
        latency_adc=adc_path,
        area_array=built * w.rows * line_cells * model.geometry.pitch**2,
        area_drivers=built * w.rows * model.driver.area,
        area_dac=built * w.rows * dac_elements * model.dac.a_unit,
        area_adc=built
        * (math.ceil(converted / shared) * model.adc.area + converted * model.adc.a_hold),
        area_digital=built * model.digital.area,
        operations=2.0 * w.outputs * w.inputs * w.batch,
    )
    given = jax.tree.leaves((model, read_energy, mean_square_voltage, t_read))
    dtype = jnp.result_type(float, *given)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), cost)


def _critical_path(
    stages: tuple[Scalar, Scalar], steps: float, pipelined: bool
) -> tuple[Scalar, Scalar]:
    """Time that each of two stages adds to the critical path of `steps` reads."""
    first, second = stages
    if not pipelined:
        return steps * first, steps * second
    # The slower stage works without a break; the faster one counts once.
    slow = jnp.asarray(first >= second)
    return (
        jnp.where(slow, steps, 1.0) * first,
        jnp.where(slow, 1.0, steps) * second,
    )
