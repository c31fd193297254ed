"""Weights of PyTorch into models of NNX; the extra `flax`."""

from typing import Any

from flax import nnx

from .pytorch import LoadReport, Names, Weights, cast, fill
from .pytorch_flax import places_of

_WEIGHTS = nnx.Param | nnx.BatchStat


def load_into_flax(
    call: str, model: nnx.Module, weights: Weights, names: Names | None, strict: bool
) -> tuple[nnx.Module, LoadReport]:
    """A copy of the model with the weights, and the report."""
    copy = nnx.clone(model)
    variables: dict[str, Any] = {}
    places = []
    for parts, layer in nnx.iter_modules(copy):
        own = {n: v for n, v in vars(layer).items() if isinstance(v, _WEIGHTS)}
        here = places_of(parts, layer, {n: v.get_value() for n, v in own.items()})
        places += here
        variables |= {p.path: v for p, v in zip(here, own.values(), strict=True)}
    values, report = fill(call, places, weights, names, strict)
    for path, value in values.items():
        variables[path].set_value(cast(value, variables[path].get_value()))
    return copy, report
