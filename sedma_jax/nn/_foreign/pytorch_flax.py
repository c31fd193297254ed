"""Places for weights of PyTorch in layers of NNX; flax itself is not needed here."""

from typing import Any

import numpy as np

from .._flax_weights import features, layer_path
from .pytorch import (
    Place,
    Recipe,
    as_it_is,
    canonical,
    joined,
    part_of_three,
    transposed_conv,
)

# What NNX calls otherwise.
_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
_OF_THREE = ("query", "key", "value")


def places_of(parts: tuple, layer: Any, variables: dict[str, Any]) -> list[Place]:
    """A place for each variable of a layer at a path."""
    prefix = canonical(layer_path(parts))
    return [
        Place(joined(prefix, name), _recipes(prefix, layer, name, tuple(value.shape)))
        for name, value in variables.items()
    ]


def _recipes(prefix: str, layer: Any, name: str, shape: tuple) -> tuple[Recipe, ...]:
    path = joined(prefix, _NAMES.get(name, name))
    if name == "kernel" and hasattr(layer, "kernel_size"):
        return (_convolution(path, layer, shape),)
    if name not in ("kernel", "bias") or not hasattr(layer, "in_features"):
        return (as_it_is(path, shape),)
    if hasattr(layer, "kernel_size"):
        return (as_it_is(path, shape),)
    inputs, outputs, _ = features(layer)
    n, m = int(np.prod(inputs)), int(np.prod(outputs))
    kind = "weight" if name == "kernel" else "bias"
    theirs = (m, n) if kind == "weight" else (m,)

    def build(array):
        return (array.T if kind == "weight" else array).reshape(shape)

    found = [Recipe((path,), (theirs,), build)]
    above, _, own = prefix.rpartition(".")
    if own in _OF_THREE:
        whole = part_of_three(above, _OF_THREE.index(own), m, theirs[1:], kind)
        cut = whole.build
        found.append(whole._replace(build=lambda array: build(cut(array))))
        alone = joined(above, f"{own[0]}_proj_{kind}")
        found.append(Recipe((alone,), (theirs,), build))
    if own == "out":
        found.append(Recipe((joined(above, "out_proj", kind),), (theirs,), build))
    return tuple(found)


def _convolution(path: str, layer: Any, shape: tuple) -> Recipe:
    """Kernels have their axes first, then inputs and outputs."""
    *kernel, n, m = shape
    in_out = lambda array: np.moveaxis(array, (1, 0), (-2, -1))
    if "Transpose" in type(layer).__name__:
        if layer.transpose_kernel:  # outputs before inputs, and read as by PyTorch
            return Recipe((path,), ((m, n, *kernel),), in_out)
        turned = lambda array: in_out(transposed_conv(array))
        return Recipe((path,), ((n, m, *kernel),), turned)
    return Recipe((path,), ((m, n, *kernel),), in_out)
