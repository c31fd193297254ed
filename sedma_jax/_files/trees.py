"""Keep a tree of arrays, such as a converted network, in one small file.

The cells of an array that a small matrix leaves unused are all alike, so that they take
next to no room in a compressed file: of a layer smaller than an array about what its own
cells hold is left.
"""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PyTree

from .numpy_files import parse_arrays
from .read_files import read_regular
from .refusal import LARGEST_BYTES, MOST_MEMBERS, FileRefusal
from .whole_files import replacing


def save_tree(path: str | os.PathLike[str], tree: PyTree) -> None:
    """Write all arrays and numbers of a tree to a compressed `.npz` file.

    The old file or the new one is there, whole, at any moment. Whatever is no array and no
    number, such as an activation function, is not written: `load_tree` takes it from the
    tree that it is given.

    **Arguments:**

    - `path`: of the file.
    - `tree`: any tree: a `Crossbar`, an Equinox model, the state of an optimiser.

    **Raises:**

    - `ValueError`: if the tree has no array and no number, or more than 4,096; if there
        can be no such file.
    - `OSError`: if it cannot be written.

    **Example:**

        >>> import os
        >>> crossbar, _ = sj.program(np.eye(4), "epiram", key=jr.key(0))
        >>> sj.save_tree("crossbar.npz", crossbar)
        >>> os.path.getsize("crossbar.npz") < crossbar.conductance.nbytes / 50
        True
    """
    arrays = {place: _stored(leaf) for place, leaf in _leaves(tree)}
    if not 0 < len(arrays) <= MOST_MEMBERS:
        raise ValueError(
            f"`sedma_jax.save_tree` needs a tree of 1 to {MOST_MEMBERS:,} arrays and "
            f"numbers. Got {len(arrays):,}. Save its parts in files of their own."
        )
    fields: dict[str, Any] = arrays
    with replacing(Path(path)) as part, part.open("wb") as file:
        np.savez_compressed(file, **fields)


def load_tree(path: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Read the arrays and numbers that `save_tree` wrote, into a tree of the same form.

    **Arguments:**

    - `path`: of a file of at most 2 GiB. It is data alone: nothing in it is run.
    - `like`: a tree of the same structure, whose arrays have the same shapes and dtypes;
        `equinox.filter_eval_shape` makes one without computing.

    **Returns:**

    `like`, with the numbers of the file.

    **Raises:**

    - `ValueError`: if the file is damaged or too large, or lacks something that `like` has
        or has it in another shape or dtype: the message names it.

    **Example:**

        >>> crossbar, _ = sj.program(np.eye(4), "epiram", key=jr.key(0))
        >>> other, _ = sj.program(np.ones((4, 4)), "epiram", key=jr.key(1))
        >>> sj.save_tree("crossbar.npz", crossbar)
        >>> loaded = sj.load_tree("crossbar.npz", other)
        >>> bool((loaded.strips == crossbar.strips).all())
        True
    """
    leaves = _leaves(like)
    try:
        found = parse_arrays(read_regular(path, LARGEST_BYTES), [p for p, _ in leaves])
    except FileRefusal as error:
        requirement, received, remedy = error.args
        raise ValueError(
            f"`sedma_jax.load_tree` needs {requirement}. Got {received} in {path}. {remedy}"
        ) from error
    read = {place: _restored(found.get(place), leaf, place, path) for place, leaf in leaves}

    def put(place, leaf):
        return read.get(jax.tree_util.keystr(place), leaf)

    return jax.tree_util.tree_map_with_path(put, like)


def _leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """Arrays and numbers, also those that are not computed yet, by their places."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = [(jax.tree_util.keystr(place), leaf) for place, leaf in leaves]
    return [(place, leaf) for place, leaf in named if _is_number(leaf)]


def _is_number(leaf: Any) -> bool:
    kinds = (jax.Array, jax.ShapeDtypeStruct, np.ndarray, np.generic, bool, int, float)
    return isinstance(leaf, kinds)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)


def _stored(leaf: Any) -> np.ndarray:
    """As a file of NumPy holds it: keys as their words, bfloat16 and the like as bits."""
    array = np.asarray(jr.key_data(leaf) if _is_key(leaf) else leaf)
    return array.view(_bits(array.dtype)) if array.dtype.kind == "V" else array


def _bits(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"u{dtype.itemsize}")


def _restored(found: np.ndarray | None, leaf: Any, place: str, path: Any) -> Any:
    """A number of the file as the leaf that it stands for."""
    if isinstance(leaf, bool | int | float):
        shape, dtype = (), np.asarray(leaf).dtype
    elif _is_key(leaf):
        words = jax.eval_shape(jr.key_data, leaf)
        shape, dtype = words.shape, np.dtype(words.dtype)
    else:
        shape, dtype = leaf.shape, np.dtype(leaf.dtype)
    kept = _bits(dtype) if dtype.kind == "V" else dtype
    if found is None or (found.shape, found.dtype) != (shape, kept):
        got = "nothing" if found is None else f"shape {found.shape}, {found.dtype}"
        raise ValueError(
            f"`sedma_jax.load_tree` needs `{place}` of shape {shape}, {dtype}, as `like` "
            f"has it. Got {got} in {path}. Give the tree that the file was written from, "
            "or one like it."
        )
    found = found.view(dtype)
    if isinstance(leaf, bool | int | float):
        return type(leaf)(found.item())
    if _is_key(leaf):
        return jr.wrap_key_data(jnp.array(found), impl=jr.key_impl(leaf))
    return (
        jnp.array(found) if not isinstance(leaf, np.ndarray | np.generic) else found.copy()
    )
