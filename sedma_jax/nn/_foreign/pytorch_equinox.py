"""Weights of PyTorch into models of Equinox, and of NNX."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from .pytorch import (
    LoadReport,
    Names,
    Place,
    Recipe,
    Weights,
    as_it_is,
    canonical,
    cast,
    fill,
    joined,
    part_of_three,
    transposed_conv,
)

_OF_THREE = ("query_proj", "key_proj", "value_proj")


def load_pytorch(
    model: PyTree, weights: Weights, *, names: Names | None = None, strict: bool = True
) -> tuple[PyTree, LoadReport]:
    """Load weights of PyTorch into a model of Equinox or of Flax NNX, by name.

    `fc.weight` of the file goes to `fc.weight` of the model, and `layers.0.bias` to
    `layers[0].bias`. Layouts are converted: biases of convolutions, kernels of transposed
    convolutions, `in_proj_weight` and `out_proj` of `torch.nn.MultiheadAttention`, and the
    two biases of cells and of one layer (`_l0`) of `torch.nn.LSTM` and `GRU`. In NNX
    `weight` is `kernel`, `embedding` or `scale`, and `running_mean` is `mean`. What has no
    place stays in `unused`: means and variances of `BatchNorm` for Equinox, where they are
    no part of a model but of its `State`, and recurrent cells for NNX, which has others.

    **Arguments:**

    - `model`: any pytree, or an `nnx.Module`, which does not change; its arrays give shapes
        and dtypes.
    - `weights`: a `state_dict`, with arrays or tensors; or the path of a `.safetensors` or
        `.npz` file. Pickles (`.pth`, `.pt`, `.bin`) are refused: reading one may run any
        code.
    - `names`: what goes elsewhere: a mapping of prefixes in the file to prefixes in the
        model, of which the longest counts, or a function of a name, None for what to
        leave out. `{"module": ""}` takes a prefix away.
    - `strict`: refuse weights of which anything does not fit.

    **Returns:**

    The model with the weights, and a `LoadReport`.

    **Raises:**

    - `ValueError`: if a shape does not fit, if the model needs what the file has not, or
        the other way round, unless `strict=False`; if the file cannot be read; if names
        meet.

    **Example:**

        >>> import equinox as eqx
        >>> state = {"fc1.weight": np.full((4, 2), 0.5), "fc1.bias": np.zeros(4)}
        >>> state |= {"fc2.weight": np.full((1, 4), 0.25), "fc2.bias": np.ones(1)}
        >>> model = eqx.nn.MLP(2, 1, width_size=4, depth=1, key=jr.key(0))
        >>> names = {"fc1": "layers[0]", "fc2": "layers[1]"}
        >>> model, report = sj.nn.load_pytorch(model, state, names=names)
        >>> print(model(jnp.ones(2)))  # 1 at each hidden unit, then 4 / 4 + 1
        [2.]
    """
    call = "sedma_jax.nn.load_pytorch"
    if any(base.__module__.startswith("flax.nnx") for base in type(model).__mro__):
        from .flax import load_into_flax  # whoever has such a model has the extra

        return load_into_flax(call, model, weights, names, strict)
    leaves = jtu.tree_leaves_with_path(model)
    arrays = {_name(path): leaf for path, leaf in leaves if _is_weight(leaf)}
    owners = _owners(model)
    places = [Place(path, _recipes(path, leaf, owners)) for path, leaf in arrays.items()]
    values, report = fill(call, places, weights, names, strict)

    def put(path: Any, leaf: Any) -> Any:
        value = values.get(_name(path))
        return leaf if value is None else cast(value, leaf)

    return jtu.tree_map_with_path(put, model), report


def _name(path: Any) -> str:
    return canonical(jtu.keystr(path))


def _is_weight(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and jnp.issubdtype(
        getattr(leaf, "dtype", object), np.inexact
    )


def _owners(model: PyTree) -> dict[str, Any]:
    """Layers of which PyTorch holds the weights otherwise, by their paths."""
    known = lambda node: isinstance(node, tuple(_RECIPES))
    leaves = jtu.tree_leaves_with_path(model, is_leaf=known)
    return {_name(path): node for path, node in leaves if known(node)}


def _recipes(path: str, leaf: Any, owners: dict[str, Any]) -> tuple[Recipe, ...]:
    plain = as_it_is(path, leaf.shape)
    parts = path.split(".")
    for cut in range(len(parts)):
        prefix = ".".join(parts[:cut])
        if prefix in owners:
            layer = owners[prefix]
            make = next(m for kind, m in _RECIPES.items() if isinstance(layer, kind))
            found = make(layer, prefix, ".".join(parts[cut:]), leaf.shape)
            return found or (plain,)
    return (plain,)


def _conv(layer: Any, prefix: str, name: str, shape: tuple) -> tuple[Recipe, ...]:
    # Equinox has a bias with an axis of length one for each axis of an image.
    path = joined(prefix, name)
    return (as_it_is(path, shape[:1], shape),) if name == "bias" else ()


def _conv_transpose(layer: Any, prefix: str, name: str, shape: tuple) -> tuple[Recipe, ...]:
    if name != "weight":
        return _conv(layer, prefix, name, shape)
    groups = layer.groups
    theirs = shape[1] * groups, shape[0] // groups, *shape[2:]
    turned = lambda array: transposed_conv(array, groups)
    return (Recipe((joined(prefix, name),), (theirs,), turned),)


def _attention(layer: Any, prefix: str, name: str, shape: tuple) -> tuple[Recipe, ...]:
    part, _, kind = name.partition(".")
    own = as_it_is(joined(prefix, name), shape)
    if part == "output_proj":
        return own, as_it_is(joined(prefix, "out_proj", kind), shape)
    if part not in _OF_THREE:
        return ()
    which, rows = _OF_THREE.index(part), shape[0]
    three = part_of_three(prefix, which, rows, shape[1:], kind)
    alone = as_it_is(joined(prefix, f"{part[0]}_proj_{kind}"), shape)
    return own, three, alone


def _cell(layer: Any, prefix: str, name: str, shape: tuple) -> tuple[Recipe, ...]:
    """Of a cell, or of the first layer of several steps."""
    gates = isinstance(layer, eqx.nn.GRUCell)

    def both(of_input, of_state):
        # The new state of a GRU has the bias of its own, inside of the reset gate.
        rows = len(of_state) - len(of_state) // 3 if gates else len(of_state)
        return of_input + np.concatenate([of_state[:rows], 0 * of_state[rows:]])

    found = []
    for end in ("", "_l0"):
        of_input, of_state = (joined(prefix, f"bias_{kind}{end}") for kind in ("ih", "hh"))
        if name == "bias":
            found.append(Recipe((of_input, of_state), (shape, shape), both))
        elif name == "bias_n":
            last = lambda array: array[-len(array) // 3 :]
            found.append(Recipe((of_state,), ((3 * shape[0],),), last))
        else:
            found.append(as_it_is(joined(prefix, name + end), shape))
    return tuple(found)


_RECIPES = {
    eqx.nn.ConvTranspose: _conv_transpose,
    eqx.nn.Conv: _conv,
    eqx.nn.MultiheadAttention: _attention,
    eqx.nn.LSTMCell: _cell,
    eqx.nn.GRUCell: _cell,
}
