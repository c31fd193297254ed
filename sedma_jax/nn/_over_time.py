"""Age a network: the weights of its arrays some time after programming."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._keys import check_key
from ..kernels import FROM_ZERO, AbstractDrift, check_counts, check_given
from ._convert import map_analog
from ._effects import act, known_drift, known_noise
from ._keys import wrapped_key
from ._matrix import AnalogMatrix
from ._paths import Path, check_paths, of_path, path_key

Drift = AbstractDrift | Mapping[Path, AbstractDrift] | Callable[[Path, Any], AbstractDrift]
Seconds = Float[Array, ""] | float | int


def age(
    model: PyTree,
    seconds: Seconds,
    *,
    drift: Drift | None = None,
    compensation_reads: int = 0,
    key: PRNGKeyArray,
) -> PyTree:
    """Let the arrays of a network drift for some time after programming.

    Time counts from programming: to follow a network over time, age the freshly programmed
    one to each time, with one key. This works inside `jit` and `vmap`, also over times:

        curve = jax.vmap(lambda t: accuracy(age(analog, t, key=cells_key)))(times)

    **Arguments:**

    - `model`: with analog layers, as programmed.
    - `seconds`: since programming, from 0 up.
    - `drift`: the drift model, e.g. `sedma_jax.noise_models.PCM.drift`: one for all layers,
        a mapping by path, or a function of path and `AnalogMatrix`. A layer that it leaves
        out drifts, and has the read noise of that time, by its `Effects` or by the
        statistics that it was programmed by. Stuck cells and lines stay as they are.
    - `compensation_reads`: number of known inputs that each layer is read with, after
        programming and again now, to scale its bit lines by the loss of their currents, as
        `sedma_jax.compensate_drift` does. 256 is many; 0 compensates nothing.
    - `key`: identifies the cells: the same key gives every cell the same drift at all
        times. The drift of a layer depends only on the key and on the path.

    **Returns:**

    The model; `error` of its layers stays that of programming.

    **Raises:**

    - `ValueError`: if there is no analog layer; if a layer has no drift model; if a path
        in `drift` leads nowhere; if `seconds` or `compensation_reads` is below zero or
        not finite.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Linear(4, 3, key=jr.key(0))
        >>> fresh = sj.nn.analogize(layer, sj.noise_models.PCM, array=4, key=jr.key(1))
        >>> size = lambda model: float(jnp.linalg.norm(sj.nn.digitize(model).weight))
        >>> old = sj.nn.age(fresh, 3.15e7, key=jr.key(2))  # a year
        >>> size(old) < 0.8 * size(fresh)
        True
    """
    matrices: dict[Path, AnalogMatrix] = {}

    def note(path: Path, layer: Any) -> Any:
        matrices[path] = layer.matrix
        return layer

    map_analog(note, model)
    models = drift_models(matrices, seconds, drift, compensation_reads)
    check_key(key)
    aged: dict[int, Any] = {}

    def one(path: Path, layer: Any) -> Any:
        # One object at two places is one array.
        if id(layer) not in aged:
            old = aged_matrix(
                layer.matrix,
                seconds,
                models[path],
                reads=compensation_reads,
                key=path_key(key, path),
            )
            aged[id(layer)] = eqx.tree_at(lambda layer: layer.matrix, layer, old)
        return aged[id(layer)]

    return map_analog(one, model)


def drift_models(
    matrices: Mapping[Path, AnalogMatrix],
    seconds: Seconds,
    drift: Drift | None,
    compensation_reads: int,
) -> dict[Path, AbstractDrift]:
    """The drift model of each layer; raises the errors of `age`."""
    remedy = "Time counts from the end of programming."
    check_given("sedma_jax.nn.age", FROM_ZERO, remedy, seconds=seconds)
    check_counts(
        "sedma_jax.nn.age",
        0,
        math.inf,
        "256 is many; 0 compensates nothing.",
        compensation_reads=compensation_reads,
    )
    if not matrices:
        raise ValueError(
            "`sedma_jax.nn.age` needs a model with analog layers. Got one without. Make "
            "them by `sedma_jax.nn.analogize`."
        )
    models: dict[Path, Any] = {}
    for path, matrix in matrices.items():
        own = known_drift(matrix.measured, matrix.effects)
        models[path] = own if drift is None else of_path(drift, path, matrix, own)
    check_paths("age", models, drift=drift)
    missing = [path for path, m in models.items() if not isinstance(m, AbstractDrift)]
    if missing:
        raise ValueError(
            "`sedma_jax.nn.age` needs a drift model for each analog layer. Got none for "
            f"{missing}. Pass `drift`, such as `sedma_jax.noise_models.PCM.drift`, or "
            "program by statistics that have one."
        )
    return models


def aged_matrix(
    matrix: AnalogMatrix,
    seconds: Seconds,
    model: AbstractDrift,
    *,
    reads: int,
    key: PRNGKeyArray,
) -> AnalogMatrix:
    """One matrix, some time after it was programmed."""
    cells = matrix.cells
    old = act(
        matrix.crossbar if matrix.fresh is None else matrix.fresh,
        matrix.effects,
        drift=model,
        seconds=seconds,
        noise=known_noise(matrix.measured, matrix.effects),
        target=matrix.target,
        reads=reads,
        cells_key=None if cells is None else wrapped_key(cells),
        key=key,
    )
    return dataclasses.replace(matrix, crossbar=old)
