import zipfile

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj


def layer(key, outputs=10, inputs=20):
    weights = np.random.default_rng(key).normal(size=(outputs, inputs))
    crossbar, _ = sj.program(weights.astype(np.float32), "epiram", key=jr.key(key))
    return crossbar


def tree():
    return {
        "layers": [layer(0), layer(1)],
        "key": jr.key(3),
        "keys": jr.split(jr.key(4), 2),
        "narrow": jnp.arange(3, dtype=jnp.bfloat16),
        "steps": 7,
        "rate": 0.1,
        "on": True,
        "activation": jax.nn.relu,
        "host": np.arange(4),
    }


def same(a, b):
    bits = lambda v: (
        jr.key_data(v) if hasattr(v, "dtype") and v.dtype == jr.key(0).dtype else v
    )
    return type(a) is type(b) and np.array_equal(np.asarray(bits(a)), np.asarray(bits(b)))


def test_what_is_saved_is_loaded_and_a_function_is_taken_from_the_other(tmp_path):
    saved = tree()
    sj.save_tree(tmp_path / "net.npz", saved)
    zeros = lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else leaf
    like = jax.tree.map(zeros, saved) | {
        "steps": 0,
        "rate": 0.0,
        "on": False,
        "key": jr.key(0),
    }
    loaded = sj.load_tree(tmp_path / "net.npz", like)
    assert loaded.pop("activation") is saved.pop("activation")
    assert all(jax.tree.leaves(jax.tree.map(same, loaded, saved)))


def test_an_abstract_tree_is_enough(tmp_path):
    crossbar = layer(0)
    sj.save_tree(tmp_path / "one.npz", crossbar)
    loaded = sj.load_tree(tmp_path / "one.npz", eqx.filter_eval_shape(lambda: crossbar))
    np.testing.assert_array_equal(loaded.strips, crossbar.strips)


def test_small_layers_make_a_small_file(tmp_path):
    """Of 200 weights that stand on two arrays of 65,536 cells, not of all those cells."""
    sj.save_tree(tmp_path / "net.npz", [layer(0), layer(1)])
    numbers = 2 * 200 * 3  # two cells and a signed weight
    size = (tmp_path / "net.npz").stat().st_size
    names = 2 * 40 * 300  # members of an archive, at most 300 bytes each
    assert size < numbers * 4 + names + 0.01 * 2 * 3 * 65_536 * 4


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda t: t | {"rate": 1}, "int64"),
        (lambda t: t | {"host": np.arange(5)}, "shape (5,)"),
        (lambda t: t | {"more": 1.0}, "Got nothing"),
        (lambda t: t | {"narrow": t["narrow"].astype(jnp.float32)}, "float32"),
        (lambda t: t | {"layers": [layer(0), layer(1, 10, 300)]}, "shape"),
    ],
)
def test_another_tree_is_refused_by_name(change, said, tmp_path):
    sj.save_tree(tmp_path / "net.npz", tree())
    with pytest.raises(ValueError, match="load_tree` needs") as error:
        sj.load_tree(tmp_path / "net.npz", change(tree()))
    assert said in str(error.value)


def test_no_pickle_is_read_and_damage_is_refused(tmp_path):
    path = tmp_path / "net.npz"
    np.savez(path, **{"['a']": np.array([{}], object)})
    with pytest.raises(ValueError, match="real numbers"):
        sj.load_tree(path, {"a": np.zeros(1)})
    sj.save_tree(path, {"a": np.arange(1000.0)})
    content = path.read_bytes()
    for cut in range(0, len(content), 97):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="load_tree"):
            sj.load_tree(path, {"a": np.zeros(1000)})


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("['a'].npy", "w") as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "<f8", "fortran_order": False, "shape": (2**25,)}
            )
            for _ in range(256):
                member.write(bytes(2**20))
    with pytest.raises(ValueError, match="unpack"):
        sj.load_tree(path, {"a": np.zeros(3)})


def test_nothing_to_save_is_refused(tmp_path):
    with pytest.raises(ValueError, match="1 to 4,096"):
        sj.save_tree(tmp_path / "no.npz", {"activation": jax.nn.relu})
