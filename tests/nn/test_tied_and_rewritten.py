"""Weights on the same arrays, and arrays that are written for each call."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj
from sedma_jax.nn import age, analogize, digitize, inspect, with_read_keys

FAST = dict(scheme=sj.sampled_rewrite, array=8)
IDEAL = sj.Device(0.0, 1e-5, 2**60, 2**60)


class Tied(eqx.Module):
    """Two layers with one weight, as a language model has them."""

    shared: eqx.nn.Shared

    def __init__(self, first, last):
        weight = lambda layers: layers[1].weight
        self.shared = eqx.nn.Shared((first, last), weight, lambda layers: layers[0].weight)

    def __call__(self, x):
        first, last = self.shared()
        return last(first(x))


def test_tied_weights_are_programmed_once():
    model = Tied(*(eqx.nn.Linear(4, 4, key=jr.key(n)) for n in (0, 1)))
    done = []
    how = dict(progress=lambda now, of: done.append((now, of)), key=jr.key(2))
    analog = analogize(model, "epiram", **how, **FAST)
    assert done[-1] == (16, 16)
    assert [figure.path for figure in inspect(analog)] == ["shared.pytree[0]"]
    first, last = analog.shared()
    assert last.matrix.crossbar.strips is first.matrix.crossbar.strips
    assert np.any(last.bias != first.bias)
    # They drift as one, also behind `jit`.
    pcm = analogize(model, sj.noise_models.PCM, array=8, key=jr.key(2))
    old = eqx.filter_jit(age)(pcm, 1e6, key=jr.key(3))
    pair = [layer.held() for layer in old.shared()]
    np.testing.assert_array_equal(*pair)
    assert np.linalg.norm(pair[0]) < 0.9 * np.linalg.norm(pcm.shared()[0].held())
    # Reads of the two draw apart, and the digital model is tied again.
    keys = [layer.read_key for layer in with_read_keys(pcm, key=jr.key(4)).shared()]
    assert np.any(keys[0] != keys[1])
    back = digitize(old)
    assert jax.tree.structure(eqx.filter(back, eqx.is_array)) == jax.tree.structure(
        eqx.filter(model, eqx.is_array)
    )
    np.testing.assert_array_equal(back.shared()[1].weight, pair[0])
    np.testing.assert_allclose(inspect(old, model)[0].error, 0.4, atol=0.2)


def test_a_table_stays_digital_and_the_layer_tied_to_it_does_not():
    first, last = eqx.nn.Embedding(5, 4, key=jr.key(0)), eqx.nn.Linear(4, 5, key=jr.key(1))
    model, tokens = Tied(first, last), jnp.arange(5)
    analog = analogize(model, IDEAL, key=jr.key(2), **FAST)
    kinds = [type(layer) for layer in analog.shared()]
    assert kinds == [eqx.nn.Embedding, sj.nn.AnalogLinear]
    expected = jax.vmap(model)(tokens)
    np.testing.assert_allclose(jax.vmap(analog)(tokens), expected, rtol=0, atol=1e-12)
    # Where neither is converted, they stay tied.
    other = {"tied": model, "own": last}
    analog = analogize(other, IDEAL, where=lambda path, _: "own" in path, key=jr.key(2))
    assert len(jax.tree.leaves(analog["tied"])) == len(jax.tree.leaves(model))
    both = dict(where=lambda path, layer: True, key=jr.key(2), **FAST)
    with pytest.raises(ValueError, match="same options for tied weights"):
        pair = Tied(*(eqx.nn.Linear(4, 4, key=jr.key(n)) for n in (0, 1)))
        analogize(pair, IDEAL, layer_options={"shared.pytree[1]": dict(slices=2)}, **both)


LAYER = eqx.nn.MultiheadAttention(2, 6, key=jr.key(0))
WINDOW = sj.noise_models.window(0.0, 1e-5)  # 1024 pulses, linear and without noise


def test_written_keys_and_values_compute_what_the_digital_layer_does():
    x, mask = jr.normal(jr.key(1), (5, 6)), jnp.tri(5, dtype=bool)
    analog = analogize(LAYER, IDEAL, rewritten=True, key=jr.key(2), **FAST)
    y = with_read_keys(analog, key=jr.key(3))(x, x, x, mask)
    np.testing.assert_allclose(y, LAYER(x, x, x, mask), rtol=0, atol=1e-11)
    with pytest.raises(ValueError, match="key to write keys and values"):
        analog(x, x, x)
    with pytest.raises(ValueError, match="Got `corrected`"):
        options = dict(corrected=True, key=jr.key(2))
        analogize(LAYER, IDEAL, rewritten=True, **options, **FAST)


def test_the_pulses_of_a_call_are_counted():
    paths = [f"{name}_proj" for name in ("query", "key", "value", "output")]
    analog = analogize(
        LAYER,
        {"": WINDOW} | dict.fromkeys(paths, IDEAL),
        layer_options={"": dict(scheme="open_loop", array=8, rewritten=True)}
        | dict.fromkeys(paths, FAST),
        key=jr.key(2),
    )
    x = jr.normal(jr.key(1), (5, 6))
    attend = eqx.filter_jit(lambda key: analog.attend(x, x, x, key=key))
    y, cost = attend(jr.key(3))
    assert 1e-5 < np.abs(y - LAYER(x, x, x)).max() < 1e-2  # 1024 levels
    pulses = 0
    for projection, axis in ((LAYER.key_proj, 2), (LAYER.value_proj, 0)):
        heads = np.asarray(jax.vmap(projection)(x)).reshape(5, 2, 3)
        # A bit line is a token of the keys, and a feature of the values.
        share = np.abs(heads) / np.abs(heads).max(axis=axis, keepdims=True)
        pulses += np.sum(np.round(1024 * share))
    assert int(cost.pulses) == pulses
    assert cost.energy > 0 and cost.latency > 0
    statistics = analogize(LAYER, sj.noise_models.PCM, rewritten=True, key=jr.key(2))
    assert statistics.attend(x, x, x, key=jr.key(3))[1] is None
