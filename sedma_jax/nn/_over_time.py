"""A network as its arrays hold it some time after they were programmed."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._crossbar.crossbar import Crossbar
from .._crossbar.effects import age as age_crossbar, compensate_drift
from .._crossbar.read_effects import with_read_noise
from .._keys import check_key
from .._programming.pooled import PooledCrossbar
from ..kernels import AbstractDrift
from ._convert import Path, check_paths, map_analog, of_path, path_key
from ._matrix import AnalogMatrix

Drift = AbstractDrift | Mapping[Path, AbstractDrift] | Callable[[Path, Any], AbstractDrift]


def age(
    model: PyTree,
    seconds: Float[Array, ""] | float | int,
    *,
    drift: Drift | None = None,
    compensation_reads: int = 0,
    key: PRNGKeyArray,
) -> PyTree:
    """Let the arrays of a network drift for some time after programming.

    To follow a network over time, age the one that was just programmed to each time, with
    one key: times count from programming. Works inside `jit` and `vmap`, over times too:

        curve = jax.vmap(lambda t: accuracy(age(analog, t, key=cells_key)))(times)

    **Arguments:**

    - `model`: with analog layers, as programmed.
    - `seconds`: since programming, from 0 up.
    - `drift`: the law, e.g. `sedma_jax.noise_models.PCM.drift`: of all layers, by path, or
        a function of path and `AnalogMatrix`. A layer that it leaves out has that of the
        statistics it was programmed by. Read noise is theirs at that time.
    - `compensation_reads`: known inputs that each layer is read with, after programming
        and again, to scale its bit lines by what their currents have lost, as
        `sedma_jax.compensate_drift` does; 256 is many, 0 compensates nothing.
    - `key`: stands for the cells: the same key gives every cell the same drift at all
        times. A layer's depends on it and on the path alone.

    **Returns:**

    The model; `error` of its layers stays that of programming.

    **Raises:**

    - `ValueError`: if there is no analog layer; if a layer has no law of drift; if a path
        in `drift` leads nowhere; if `seconds` or `compensation_reads` is below zero.
    """
    matrices: dict[Path, AnalogMatrix] = {}

    def note(path, layer):
        matrices[path] = layer.matrix
        return layer

    map_analog(note, model)
    laws = drift_laws(matrices, seconds, drift, compensation_reads)
    check_key(key)
    aged: dict[int, Any] = {}

    def one(path, layer):
        # One object at two places is one array.
        if id(layer) not in aged:
            reads = seconds, laws[path], compensation_reads
            old = aged_matrix(layer.matrix, *reads, path_key(key, path))
            aged[id(layer)] = eqx.tree_at(lambda layer: layer.matrix, layer, old)
        return aged[id(layer)]

    return map_analog(one, model)


def drift_laws(
    matrices: Mapping[Path, AnalogMatrix],
    seconds,
    drift: Drift | None,
    compensation_reads: int,
) -> dict[Path, AbstractDrift]:
    """The law of each layer; refuses what `age` cannot do."""
    for name, value in (("seconds", seconds), ("compensation_reads", compensation_reads)):
        if isinstance(value, int | float) and not value >= 0:
            raise ValueError(
                f"`sedma_jax.nn.age` needs `{name}` from 0 up. Got {value}. Time counts "
                "from the end of programming."
            )
    laws: dict[Path, Any] = {}
    for path, matrix in matrices.items():
        own = None if matrix.measured is None else matrix.measured.drift
        laws[path] = own if drift is None else of_path(drift, path, matrix, own)
    check_paths("age", laws, drift=drift)
    lawless = [path for path, law in laws.items() if not isinstance(law, AbstractDrift)]
    if lawless or not laws:
        raise ValueError(
            "`sedma_jax.nn.age` needs analog layers, each with a law of drift. Got none "
            f"for {lawless or 'want of analog layers'}. Pass `drift`, such as `sedma_jax."
            "noise_models.PCM.drift`, or program by statistics that have one."
        )
    return laws


def aged_matrix(
    matrix: AnalogMatrix, seconds, law: AbstractDrift, reads: int, key: PRNGKeyArray
) -> AnalogMatrix:
    """One matrix, some time after it was programmed."""
    held: Any = matrix.crossbar
    if not isinstance(held, PooledCrossbar):
        old = _aged(held, matrix, seconds, law, reads, key)
        return dataclasses.replace(matrix, crossbar=old)
    banks = tuple(
        dataclasses.replace(
            bank,
            crossbar=_aged(bank.crossbar, matrix, seconds, law, reads, jr.fold_in(key, i)),
        )
        for i, bank in enumerate(held.banks)
    )
    return dataclasses.replace(matrix, crossbar=dataclasses.replace(held, banks=banks))


def _aged(fresh: Crossbar, matrix, seconds, law, reads, key) -> Crossbar:
    drift_key, input_key, read_key = jr.split(key, 3)
    noise = None if matrix.measured is None else matrix.measured.read
    quiet = fresh if noise is None else dataclasses.replace(fresh, read_variance=None)
    target = None
    if matrix.target is not None:
        target = dataclasses.replace(quiet, conductance=matrix.target)
    old = age_crossbar(quiet, law, seconds, target, key=drift_key)
    if noise is not None:
        old = with_read_noise(old, noise, seconds, quiet)
    if reads:
        inputs = jr.normal(input_key, (reads, fresh.shape[1]), fresh.dtype)
        old = compensate_drift(old, fresh, inputs, key=read_key)
    return old
