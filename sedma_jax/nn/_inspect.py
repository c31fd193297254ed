"""Figures of the layers of a network: one record per layer, printed as a table."""

import io
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from rich import box
from rich.console import Console
from rich.table import Table

from .. import noise_models
from .._products.read_heat import driven_arrays, read_heat, uniform_mean_square
from ..costs import of as product_cost
from ..devices import PULSED
from ..kernels import (
    SHARE,
    CostModel,
    ProcessorCost,
    check_given,
    check_kind,
)
from ._cells import MATRICES
from ._convert import digital_weights, layers_of
from ._matrix import AnalogMatrix, arrays_of, check_single
from ._paths import Path

_MEASURED = {
    name.lower().replace("_", "-"): value
    for name, value in vars(noise_models).items()
    if isinstance(value, noise_models.MeasuredArray)
}


class LayerFigures(NamedTuple):
    """One matrix on crossbar arrays, or one digital layer.

    - `path`: path of its layer in the model.
    - `kind`: class of its layer.
    - `device`: name of the technology or of the statistics; "custom" if it is not one of
        this package; "digital" if it is on no arrays.
    - `shape`: outputs and inputs.
    - `tiles`: number of arrays that hold it.
    - `arrays`: word lines and bit lines of each kind of array.
    - `error`: `|A~ - A| / |A|` in the Frobenius norm.
    - `pulses`, `write_energy`, `write_latency`: number of pulses, joules and seconds of
        programming, verify reads included.
    - `read_energy`, `latency`: joules and seconds of one product, which is one patch of a
        convolution.
    - `area`: square metres of its arrays with the circuits around them, or of the memory
        of a digital layer; None without constants for that.

    The last six are None after programming by published statistics, which contain no
    pulses, voltages or times. Of a digital layer nothing is programmed.

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
    latency: float | None
    area: float | None


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
        for heading in ("error", "pulses", "write J", "read J", "read s", "mm2"):
            table.add_column(heading, justify="right")
        for layer in self:
            sizes = ", ".join(f"{rows} x {cols}" for rows, cols in layer.arrays)
            table.add_row(
                layer.path or "(model)",
                layer.kind,
                layer.device,
                f"{layer.shape[0]} x {layer.shape[1]}",
                f"{layer.tiles} of {sizes}" if layer.tiles else "-",
                f"{layer.error:.2%}",
                _text(layer.pulses, ",.0f"),
                _text(layer.write_energy, ".3g"),
                _text(layer.read_energy, ".3g"),
                _text(layer.latency, ".3g"),
                _text(layer.area and 1e6 * layer.area, ".3g"),
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
    mean_square: float | None = None,
    costs: CostModel | None = None,
    processor: ProcessorCost | None = None,
) -> NetworkFigures:
    """List figures of each layer, analog or digital; projections and parts one by one.

        print(sedma_jax.nn.inspect(analog, model))

    **Arguments:**

    - `model`: a model with analog layers. Call this outside `jit`.
    - `digital`: the model that was made analog. Errors are measured against it and include
        drift. By default they are those of each layer just after programming.
    - `mean_square`: mean square of the inputs of a layer, whose largest magnitude in each
        vector counts as 1. By default that of uniform inputs: a third, and of inputs that
        are applied a bit at a time the half of the bits that are set.
    - `costs`: e.g. `sedma_jax.costs.SURVEY`, which adds converters, drivers and logic to
        the heat of the cells, and their area. Each layer then needs both converters, or
        `input_bits` in place of a `dac`.
    - `processor`: e.g. `sedma_jax.costs.PROCESSOR_45NM`, for energy, time and memory of
        digital layers: matrices, lookups of an `Embedding`, and scales of normalisations.

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
        layer kind device shape tiles error pulses write J read J read s mm2
        ───...
        layers[0] AnalogLinear epiram 4 x 4 1 of 4 x 4 0...% ...
        layers[1] AnalogLinear epiram 3 x 4 1 of 4 x 4 0...% ...
    """
    check_costs("inspect", mean_square, costs, processor)
    weights = None if digital is None else digital_weights(digital)
    found: list[LayerFigures] = []
    for path, layer in layers_of(model):
        if not hasattr(layer, "matrix"):
            found += layer_figures(path, layer, processor)
            continue
        error = None
        if weights is not None:
            error = error_now(path, layer.held(), weights)
        kind, matrix = type(layer).__name__, layer.matrix
        found.append(matrix_figures(path, kind, matrix, error, mean_square, costs))
    return checked_figures(found)


def check_costs(
    name: str,
    mean_square: float | None,
    costs: CostModel | None,
    processor: ProcessorCost | None,
) -> None:
    """Refuse what makes no read energy, for the public function `name`."""
    call, remedy = f"sedma_jax.nn.{name}", "A third is that of uniform inputs."
    if mean_square is not None:
        check_given(call, SHARE, remedy, mean_square=mean_square)
    if processor is not None:
        kind, remedy = ProcessorCost, "Such as `sedma_jax.costs.PROCESSOR_45NM`."
        check_kind(call, kind, "a `ProcessorCost`", remedy, processor=processor)
    if costs is not None:
        remedy = "Such as `sedma_jax.costs.SURVEY`."
        check_kind(call, CostModel, "a `CostModel`", remedy, costs=costs)


def checked_figures(found: list[LayerFigures]) -> NetworkFigures:
    """The figures of a network; refuses a network without analog layers."""
    if not any(layer.tiles for layer in found):
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
    mean_square: float | None,
    costs: CostModel | None,
) -> LayerFigures:
    """The figures of one matrix; the error is that of programming unless it is given."""
    check_single(matrix)
    stats, held = matrix.stats, matrix.crossbars
    read = latency = area = None
    if matrix.measured is None:
        read, latency, area = _product(path, matrix, mean_square, costs)
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
        latency=latency,
        area=area,
    )


def layer_figures(
    path: Path, layer: Any, processor: ProcessorCost | None
) -> list[LayerFigures]:
    """The figures of a digital layer, for each matrix that it has."""
    names = [name for name in ("weight", *MATRICES) if hasattr(layer, name)]
    found = []
    for name in names:
        weight = getattr(layer, name)
        if not isinstance(weight, jax.Array | np.ndarray):
            continue  # a normalisation without scale, or a weight that is another's
        place = path if name == "weight" else f"{path}.{name}".lstrip(".")
        lookup = isinstance(layer, eqx.nn.Embedding)
        found.append(
            digital_figures(place, type(layer).__name__, weight, lookup, processor)
        )
    return found


def digital_figures(
    path: Path, kind: str, weight: Any, lookup: bool, processor: ProcessorCost | None
) -> LayerFigures:
    """The figures of one digital matrix, outputs first; a lookup fetches a row of it."""
    size = weight.size
    energy = latency = area = None
    if processor is not None:
        used = weight.shape[-1] if lookup else size
        energy = used * float(processor.e_weight + (0 if lookup else processor.e_mac))
        latency, area = used / float(processor.rate), size * float(processor.a_weight)
    return LayerFigures(
        path=path,
        kind=kind,
        device="digital",
        shape=(len(weight), size // len(weight)),
        tiles=0,
        arrays=(),
        error=0.0,
        pulses=None,
        write_energy=None,
        write_latency=None,
        read_energy=energy,
        latency=latency,
        area=area,
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


def _product(
    path: Path, matrix: AnalogMatrix, mean_square: float | None, costs: CostModel | None
) -> tuple[float, float, float | None]:
    """Joules and seconds of one product, and square metres of what computes it."""
    dac, adc, bits = matrix.dac, matrix.adc, matrix.input_bits
    if mean_square is None:
        mean_square = uniform_mean_square(bits)
    if costs is None:
        reads = 1 if bits is None else bits - 1
        arrays = driven_arrays("nn.inspect", matrix.crossbar)
        heat = sum(float(jnp.sum(read_heat(c, mean_square, d)[0])) for c, d in arrays)
        seconds = max((float(c.device.t_read) for c, _ in arrays), default=0.0)
        return reads * heat, reads * seconds, None
    if adc is None or (dac is None and bits is None):
        raise ValueError(
            "`sedma_jax.nn.inspect` needs `dac` and `adc` in every layer to cost them, or "
            f"`input_bits` and `adc`. Got {dac=}, {adc=} at {path!r}. Leave `costs` out "
            "for the heat of the cells."
        )
    how: Any = dict(dac=dac, adc=adc, input_bits=bits, mean_square=mean_square)
    cost = product_cost(matrix.crossbar, costs, **how)
    area = 1e-6 * float(cost.square_millimetres)
    return float(cost.joules), float(cost.seconds), area


def _name(matrix: AnalogMatrix) -> str:
    if matrix.measured is not None:
        return _known(matrix.measured, _MEASURED)
    # Lines with resistance change the window that a read sees.
    held = matrix.crossbars if matrix.fresh is None else arrays_of(matrix.fresh)
    names = [_known(crossbar.device, PULSED) for crossbar in held]
    return ", ".join(dict.fromkeys(names))


def _known(technology: Any, known: dict[str, Any]) -> str:
    """The name of a technology among known ones, or "custom"."""
    for name, value in known.items():
        have, want = map(jax.tree.flatten, (technology, value))
        # `jit` turns numbers into arrays of single precision.
        if have[1] == want[1] and np.allclose(have[0], want[0], rtol=1e-6, atol=0):
            return name
    return "custom"
