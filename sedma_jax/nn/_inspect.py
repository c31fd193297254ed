"""Figures of the analog layers of a network: one record per layer, printed as a table."""

import io
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from rich import box
from rich.console import Console
from rich.table import Table

from .. import noise_models
from .._crossbar.crossbar import Crossbar
from ..devices import PULSED
from ..kernels import (
    SHARE,
    CostModel,
    MvmWorkload,
    check_given,
    check_kind,
    expected_read_energy,
    mvm_cost,
    series_conductance,
)
from ._convert import Path, digital_weights, map_analog
from ._matrix import AnalogMatrix, check_single

_MEASURED = {
    name.lower().replace("_", "-"): value
    for name, value in vars(noise_models).items()
    if isinstance(value, noise_models.MeasuredArray)
}


class LayerFigures(NamedTuple):
    """One matrix on crossbar arrays.

    - `path`: path of its layer in the model.
    - `kind`: class of its layer.
    - `device`: name of the technology or of the statistics; "custom" if it is not one of
        this package.
    - `shape`: outputs and inputs.
    - `tiles`: number of arrays that hold it.
    - `arrays`: word lines and bit lines of each kind of array.
    - `error`: `|A~ - A| / |A|` in the Frobenius norm.
    - `pulses`, `write_energy`, `write_latency`: number of pulses, joules and seconds of
        programming, verify reads included.
    - `read_energy`: joules of one product, which is one patch of a convolution.

    The last four are None after programming by published statistics, which contain no
    pulses, voltages or times.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Linear(6, 3, key=jr.key(0))
        >>> analog = sj.nn.analogize(layer, "epiram", array=4, key=jr.key(1))
        >>> figures = sj.nn.inspect(analog)[0]
        >>> figures.shape, figures.tiles, figures.error < 0.03  # 4 + 2 inputs
        ((3, 6), 2, True)
    """

    path: Path
    kind: str
    device: str
    shape: tuple[int, int]
    tiles: int
    arrays: tuple[tuple[int, int], ...]
    error: float
    pulses: float | None
    write_energy: float | None
    write_latency: float | None
    read_energy: float | None


class NetworkFigures(tuple[LayerFigures, ...]):
    """A tuple of `LayerFigures` that prints as a table.

    `pandas.DataFrame(figures)` accepts it directly.

    **Example:**

        >>> import equinox as eqx
        >>> model = eqx.nn.MLP(4, 3, width_size=4, depth=1, key=jr.key(0))
        >>> analog = sj.nn.analogize(model, "epiram", array=4, key=jr.key(1))
        >>> figures = sj.nn.inspect(analog)
        >>> sum(layer.tiles for layer in figures), figures[0].read_energy < 1e-12  # joules
        (2, True)
    """

    def __repr__(self):
        table = Table(box=box.SIMPLE_HEAD)
        for heading in ("layer", "kind", "device", "shape", "tiles"):
            table.add_column(heading, justify="right" if heading == "tiles" else "left")
        for heading in ("error", "pulses", "write J", "read J"):
            table.add_column(heading, justify="right")
        for layer in self:
            sizes = ", ".join(f"{rows} x {cols}" for rows, cols in layer.arrays)
            table.add_row(
                layer.path or "(model)",
                layer.kind,
                layer.device,
                f"{layer.shape[0]} x {layer.shape[1]}",
                f"{layer.tiles} of {sizes}",
                f"{layer.error:.2%}",
                _text(layer.pulses, ",.0f"),
                _text(layer.write_energy, ".3g"),
                _text(layer.read_energy, ".3g"),
            )
        text = io.StringIO()
        # Wide enough that no line wraps.
        # Under Jupyter rich would display the table, and write nothing to the file.
        Console(file=text, width=1000, force_jupyter=False).print(table)
        lines = (line.rstrip() for line in text.getvalue().splitlines())
        return "\n".join(line for line in lines if line)


def inspect(
    model: PyTree,
    digital: PyTree | None = None,
    *,
    mean_square: float = 1 / 3,
    costs: CostModel | None = None,
) -> NetworkFigures:
    """List figures of each analog layer; each projection of an attention is a layer.

        print(sedma_jax.nn.inspect(analog, model))

    **Arguments:**

    - `model`: a model with analog layers. Call this outside `jit`.
    - `digital`: the model that was made analog. Errors are measured against it and include
        drift. By default they are those of each layer just after programming.
    - `mean_square`: mean square of the inputs of a layer, whose largest magnitude in each
        vector counts as 1; a third for uniform inputs.
    - `costs`: e.g. `sedma_jax.costs.SURVEY`, which adds converters, drivers and logic to
        the heat of the cells. Each layer then needs both converters.

    **Returns:**

    A tuple of `LayerFigures`, in the order of the model, that prints as a table. A product
    is one read of all tiles with analog inputs. The further reads, the writing of inputs
    and the digital product of a corrected product are not counted.

    **Raises:**

    - `ValueError`: if there is no analog layer; if `digital` has other layers, or weights
        of another shape; if `costs` is given and a converter is ideal.

    **Example:**

        >>> import equinox as eqx
        >>> model = eqx.nn.MLP(4, 3, width_size=4, depth=1, key=jr.key(0))
        >>> analog = sj.nn.analogize(model, "epiram", array=4, key=jr.key(1))
        >>> print(sj.nn.inspect(analog, model))  # pulses and joules follow the key
        layer kind device shape tiles error pulses write J read J
        ───...
        layers[0] AnalogLinear epiram 4 x 4 1 of 4 x 4 0...% ...
        layers[1] AnalogLinear epiram 3 x 4 1 of 4 x 4 0...% ...
    """
    check_costs("inspect", mean_square, costs)
    weights = None if digital is None else digital_weights(digital)
    found: list[LayerFigures] = []

    def one(path: Path, layer: Any) -> Any:
        matrix, error = layer.matrix, None
        if weights is not None:
            error = error_now(path, layer.held(), weights)
        kind = type(layer).__name__
        found.append(matrix_figures(path, kind, matrix, error, mean_square, costs))
        return layer

    map_analog(one, model)
    return checked_figures(found)


def check_costs(name: str, mean_square: float, costs: CostModel | None) -> None:
    """Refuse what makes no read energy, for the public function `name`."""
    call, remedy = f"sedma_jax.nn.{name}", "A third is that of uniform inputs."
    check_given(call, SHARE, remedy, mean_square=mean_square)
    if costs is not None:
        remedy = "Such as `sedma_jax.costs.SURVEY`."
        check_kind(call, CostModel, "a `CostModel`", remedy, costs=costs)


def checked_figures(found: list[LayerFigures]) -> NetworkFigures:
    """The figures of a network; refuses a network without analog layers."""
    if not found:
        raise ValueError(
            "`sedma_jax.nn.inspect` needs a model with analog layers. Got none. Make them "
            "by `sedma_jax.nn.analogize`."
        )
    return NetworkFigures(found)


def matrix_figures(
    path: Path,
    kind: str,
    matrix: AnalogMatrix,
    error: float | None,
    mean_square: float,
    costs: CostModel | None,
) -> LayerFigures:
    """The figures of one matrix; the error is that of programming unless it is given."""
    check_single(matrix)
    stats, held, read = matrix.stats, matrix.crossbars, None
    if matrix.measured is None:
        parts = (_read_energy(path, c, matrix, mean_square, costs) for c in held)
        read = float(sum(parts))
    return LayerFigures(
        path=path,
        kind=kind,
        device=_name(matrix),
        shape=matrix.shape,
        tiles=sum(len(crossbar.scale) for crossbar in held),
        arrays=tuple(crossbar.array for crossbar in held),
        error=float(matrix.error) if error is None else error,
        pulses=stats and float(stats.pulses),
        write_energy=stats and float(stats.energy),
        write_latency=stats and float(stats.latency),
        read_energy=read,
    )


def _text(figure: float | None, form: str) -> str:
    return "-" if figure is None else format(figure, form)


def error_now(path: Path, held: Array, weights: dict[Path, Array]) -> float:
    """`|A~ - A| / |A|` of the weights that arrays hold, against the weights at the path."""
    exact = weights.get(path)
    if exact is None or exact.shape != held.shape:
        got = "no such layer" if exact is None else f"shape {exact.shape}"
        raise ValueError(
            "`sedma_jax.nn.inspect` needs `digital` to have a weight of shape "
            f"{held.shape} at {path!r}. Got {got}. Pass the model that was made analog."
        )
    flat = lambda weight: np.asarray(weight, np.float64).reshape(len(weight), -1)
    # Squares of numbers as large or as small as float64 has would leave its range.
    unit = np.max(np.abs(flat(exact)), initial=0) or 1.0
    size = np.linalg.norm(flat(exact) / unit) or 1 / unit
    return float(np.linalg.norm((flat(held) - flat(exact)) / unit) / size)


def _read_energy(
    path: Path,
    crossbar: Crossbar,
    matrix: AnalogMatrix,
    mean_square: float,
    costs: CostModel | None,
) -> Float[Array, ""] | float:
    """Joules of one read of all tiles; cells that hold no weight conduct too."""
    device, (rows, cols) = crossbar.device, crossbar.array
    n = crossbar.shape[1]
    square = jnp.asarray(mean_square * device.v_read**2, crossbar.dtype)
    line = crossbar.inputs[:, None] * rows + jnp.arange(rows, dtype=jnp.int32)[None]
    lines = jnp.where(line < n, square, 0)
    g = series_conductance(crossbar.conductance, device.r_access)
    heat = expected_read_energy(g.astype(crossbar.dtype), lines, device.t_read)
    if costs is None:
        return jnp.sum(heat)
    dac, adc = matrix.dac, matrix.adc
    if dac is None or adc is None:
        raise ValueError(
            "`sedma_jax.nn.inspect` needs `dac` and `adc` in every layer to cost them. Got "
            f"{dac=}, {adc=} at {path!r}. Leave `costs` out for the heat of the cells."
        )
    workload = MvmWorkload(
        outputs=crossbar.shape[0],
        inputs=n,
        rows=rows,
        cols=cols,
        input_bits=int(dac.bits),
        dac_bits=int(dac.bits),
        adc_bits=int(adc.bits),
        polarities=g.shape[1],
        tiles=len(heat),
    )
    return mvm_cost(
        costs,
        workload,
        read_energy=jnp.mean(heat),
        mean_square_voltage=jnp.sum(lines) / lines.size,
        t_read=device.t_read,
    ).energy


def _name(matrix: AnalogMatrix) -> str:
    if matrix.measured is not None:
        return _known(matrix.measured, _MEASURED)
    names = [_known(crossbar.device, PULSED) for crossbar in matrix.crossbars]
    return ", ".join(dict.fromkeys(names))


def _known(technology: Any, known: dict[str, Any]) -> str:
    """The name of a technology among known ones, or "custom"."""
    for name, value in known.items():
        have, want = map(jax.tree.flatten, (technology, value))
        # `jit` turns numbers into arrays of single precision.
        if have[1] == want[1] and np.allclose(have[0], want[0], rtol=1e-6, atol=0):
            return name
    return "custom"
