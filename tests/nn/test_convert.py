"""Which layers of a model become analog, on which arrays, and how they come back."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj
from sedma_jax.nn import (
    AnalogAttention,
    AnalogConv,
    AnalogEmbedding,
    AnalogLinear,
    analogize,
    digitize,
    with_read_keys,
)

EPIRAM, COARSE = sj.devices.EPIRAM, sj.devices.ALOX_HFO2
NOISY = dataclasses.replace(EPIRAM, sigma_read=0.05)
FAST = dict(scheme=sj.sampled_rewrite, array=(8, 4), key=jr.key(1))


class Model(eqx.Module):
    """One layer of each kind, a list, an attention, and arrays that are no layers."""

    embed: eqx.nn.Embedding
    blocks: list
    attend: eqx.nn.MultiheadAttention
    shift: jax.Array

    def __init__(self, key):
        keys = jr.split(key, 4)
        self.embed = eqx.nn.Embedding(6, 4, key=keys[0])
        self.blocks = [eqx.nn.Linear(4, 4, key=keys[1]), eqx.nn.Linear(4, 4, key=keys[2])]
        self.attend = eqx.nn.MultiheadAttention(2, 4, key=keys[3])
        self.shift = jnp.ones(4)

    def __call__(self, tokens):
        x = jax.vmap(self.embed)(tokens)
        for block in self.blocks:
            x = jnp.tanh(jax.vmap(block)(x)) + self.shift[None]
        return self.attend(x, x, x)


MODEL = Model(jr.key(0))
PATHS = ["blocks[0]", "blocks[1]", "embed"] + [
    f"attend.{name}_proj" for name in ("query", "key", "value", "output")
]


def weight(model, *path):
    """What a layer stores."""
    for step in path:
        model = model[step] if isinstance(step, int) else getattr(model, step)
    return model.matrix.crossbar.stored_matrix()


def test_all_but_embeddings_by_default():
    analog = analogize(MODEL, EPIRAM, **FAST)
    assert type(analog.embed) is eqx.nn.Embedding
    assert [type(block) for block in analog.blocks] == [AnalogLinear] * 2
    assert type(analog.attend) is AnalogAttention
    assert analog.shift is MODEL.shift
    tokens = jnp.arange(3)
    # No read draws; errors of programming are below a percent of the window.
    y, exact = eqx.filter_jit(analog)(tokens), MODEL(tokens)
    assert 1e-4 < np.abs(y - exact).max() < 0.05
    back = digitize(analog)
    assert jax.tree.structure(back) == jax.tree.structure(MODEL)
    # The errors that programming left stay in the weights.
    np.testing.assert_array_equal(back.blocks[0].weight, weight(analog, "blocks", 0))
    np.testing.assert_allclose(back(tokens), y, atol=1e-12)


def test_where_sees_paths_and_layers():
    seen = []

    def where(path, layer):
        seen.append((path, type(layer)))
        return path in ("embed", "attend.value_proj") or path.endswith("[1]")

    analog = analogize(MODEL, EPIRAM, where=where, **FAST)
    assert {path for path, _ in seen} == {*PATHS, "attend"}
    assert dict(seen)["attend"] is eqx.nn.MultiheadAttention
    assert type(analog.embed) is AnalogEmbedding
    assert [type(block) for block in analog.blocks] == [eqx.nn.Linear, AnalogLinear]
    assert type(analog.attend) is eqx.nn.MultiheadAttention
    assert type(analog.attend.value_proj) is AnalogLinear
    assert type(analog.attend.query_proj) is eqx.nn.Linear
    # A projection alone is the same as in an attention that is analog as a whole.
    whole = analogize(MODEL, EPIRAM, **FAST)
    np.testing.assert_array_equal(
        weight(analog, "attend", "value_proj"), weight(whole, "attend", "value_proj")
    )


def test_noise_follows_key_and_path_alone():
    both = analogize(MODEL.blocks, EPIRAM, **FAST)
    alone = analogize(MODEL.blocks, EPIRAM, where=lambda path, layer: path == "[1]", **FAST)
    np.testing.assert_array_equal(weight(both, 1), weight(alone, 1))
    copied = [MODEL.blocks[0], jax.tree.map(lambda x: x, MODEL.blocks[0])]
    twice = analogize(copied, EPIRAM, **FAST)
    # The largest weight of a bit line is its scale; others differ.
    assert np.mean(weight(twice, 0) != weight(twice, 1)) >= 0.75
    other = analogize(MODEL.blocks, EPIRAM, **FAST | dict(key=jr.key(2)))
    assert np.mean(weight(both, 0) != weight(other, 0)) >= 0.75
    # One object at two places is one layer.
    shared = analogize([MODEL.blocks[0]] * 2, EPIRAM, **FAST)
    assert shared[0] is shared[1]


def test_devices_options_and_plans_by_layer():
    pool = sj.Pool([sj.ArrayKind(4, 2, 4, COARSE)])
    done = []
    analog = analogize(
        MODEL,
        {"": EPIRAM, "attend": COARSE, "attend.key_proj": NOISY},
        plans={"blocks[1]": pool},
        layer_options={
            "attend": dict(dac=sj.DAC(6)),
            "attend.key_proj": {},
            "blocks[1]": dict(scheme=sj.write_and_verify),
        },
        progress=lambda now, total: done.append((now, total)),
        adc=sj.ADC(7),
        **FAST,
    )
    attend, (first, second) = analog.attend, analog.blocks
    assert attend.query_proj.matrix.device == attend.output_proj.matrix.device == COARSE
    assert attend.key_proj.matrix.device == NOISY and first.matrix.device == EPIRAM
    assert attend.query_proj.matrix.dac.bits == 6 and attend.key_proj.matrix.dac is None
    assert attend.query_proj.matrix.adc.bits == first.matrix.adc.bits == 7
    assert [bar.array for bar in second.matrix.crossbars] == [(4, 2)]
    assert first.matrix.crossbar.array == (8, 4)
    assert second.matrix.crossbars[0].device == COARSE
    total = 6 * 16
    assert done[-1] == (total, total) and done == sorted(done)
    by_function = analogize(
        MODEL.blocks,
        lambda path, layer: COARSE if path == "[0]" else EPIRAM,
        layer_options=lambda path, layer: dict(dac=sj.DAC(2 + int(path[1]))),
        **FAST,
    )
    assert [b.matrix.device for b in by_function] == [COARSE, EPIRAM]
    assert [b.matrix.dac.bits for b in by_function] == [2, 3]


@pytest.mark.parametrize(
    "layer",
    [
        eqx.nn.Linear(4, 3, key=jr.key(0)),
        eqx.nn.Conv1d(1, 2, 3, key=jr.key(0)),
        eqx.nn.Embedding(4, 3, key=jr.key(0)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_device_may_be_named(layer):
    make = lambda device: analogize(
        layer, device, where=lambda path, layer: True, array=4, key=jr.key(1)
    )
    by_name, by_device = make("epiram"), make(sj.devices.EPIRAM)
    np.testing.assert_array_equal(by_name.held(), by_device.held())


def test_converters_of_a_layer_are_those_of_matvec():
    (layer, _), x = MODEL.blocks, jr.normal(jr.key(7), (3, 4))
    converters = dict(dac=sj.DAC(4), adc=sj.ADC(5))
    analog = analogize(layer, NOISY, **converters, **FAST)
    y = analog(x, key=jr.key(2))
    crossbar = analog.matrix.crossbar
    expected = sj.matvec(crossbar, x, **converters, key=jr.key(2)) + layer.bias[None]
    np.testing.assert_array_equal(y, expected)


def test_corrected_layers():
    (layer, _), x = MODEL.blocks, jr.normal(jr.key(7), (3, 4))
    fixed = analogize(layer, COARSE, corrected=True, **FAST)
    chosen = eqx.tree_at(lambda n: n.matrix.lam, fixed, sj.RememberedLambda())
    raw = eqx.tree_at(lambda n: n.matrix.exact, fixed, None)
    exact = x @ layer.weight.T + layer.bias[None]
    *corrected, plain = (
        np.linalg.norm(analog(x, key=jr.key(3)) - exact) for analog in (fixed, chosen, raw)
    )
    assert max(corrected) < 0.1 * plain


def test_what_equinox_computes_otherwise_stays_digital():
    class Own(eqx.nn.Linear):
        def __call__(self, x, *, key=None):
            return x

    own = Own(4, 4, key=jr.key(0))
    normed = eqx.nn.WeightNorm(eqx.nn.Linear(4, 4, key=jr.key(0)))
    conv = eqx.nn.Conv1d(1, 1, 2, key=jr.key(0))
    analog = analogize([own, normed, conv], EPIRAM, **FAST)
    kinds = Own, eqx.nn.WeightNorm, AnalogConv
    assert tuple(map(type, analog)) == kinds


def test_read_keys_by_layer_and_example():
    analog = analogize(MODEL.blocks, NOISY, **FAST)
    keyed = with_read_keys(analog, key=jr.key(3))
    assert np.any(keyed[0].read_key != keyed[1].read_key)
    x = jnp.ones((2, 3, 4))
    # Every example of every `vmap` has noise of its own.
    ys = jax.vmap(jax.vmap(keyed[0]))(x).reshape(6, 4)
    assert len(np.unique(ys[:, 0])) == 6


def test_errors_say_what_to_do():
    linear, key = MODEL.blocks[0], jr.key(0)
    convert = lambda model, device=EPIRAM, **options: analogize(
        model, device, **FAST | options
    )
    with pytest.raises(ValueError, match="converts none twice"):
        convert(convert(linear))
    with pytest.raises(ValueError, match="`where` too strict"):
        convert(MODEL, where=lambda path, layer: False)
    with pytest.raises(ValueError, match="Share whole layers"):
        convert(jax.tree.map(lambda w: w[None], linear))
    with pytest.raises(ValueError, match=r"lead to layers.*\['attend.kye_proj'\]"):
        convert(MODEL, {"": EPIRAM, "attend.kye_proj": EPIRAM})
    with pytest.raises(ValueError, match=r"paths in `plans`.*\['blocks'\]"):
        convert(MODEL, plans={"blocks": sj.Pool([sj.ArrayKind(4, 4)])})
    with pytest.raises(ValueError, match=r"paths in `layer_options`"):
        convert(MODEL, layer_options={"embed": {}})
    with pytest.raises(ValueError, match=r"`sedma_jax.Device` for each layer"):
        convert(MODEL, {"blocks[0]": EPIRAM})
    with pytest.raises(TypeError, match="colour"):
        convert(linear, colour="red")
    with pytest.raises(ValueError, match="one typed key"):
        convert(linear, key=jr.PRNGKey(0))
    with pytest.raises(ValueError, match="-1"):
        convert(linear, lam=-1.0)
    with pytest.raises(ValueError, match="divide the outputs"):
        sj.nn.program_matrix(linear.weight, EPIRAM, groups=3, key=key)
    with pytest.raises(ValueError, match="finite"):
        convert(jax.tree.map(lambda w: w * jnp.nan, linear))


def test_errors_of_calls_say_what_to_do():
    linear = analogize(MODEL.blocks[0], EPIRAM, **FAST)
    with pytest.raises(ValueError, match=r"4 inputs.*Got shape \(3,\)"):
        linear(jnp.ones(3))
    with pytest.raises(ValueError, match="one typed key"):
        linear(jnp.ones(4), key=jr.PRNGKey(0))
    everything = FAST | dict(where=lambda path, layer: True)
    conv = analogize(eqx.nn.Conv2d(2, 3, 2, key=jr.key(0)), EPIRAM, **everything)
    with pytest.raises(ValueError, match=r"2 channels and 2 axes.*\(1, 2, 3, 3\)"):
        conv(jnp.ones((1, 2, 3, 3)))
    embed = analogize(MODEL.embed, EPIRAM, **everything)
    for index in (jnp.array([1, 2]), jnp.array(1.0)):
        with pytest.raises(ValueError, match="one whole number"):
            embed(index)
    attend = analogize(MODEL.attend, EPIRAM, **FAST)
    x = jnp.ones((3, 4))
    with pytest.raises(ValueError, match=r"as many keys as values.*3 and 2"):
        attend(x, x, x[:2])
    with pytest.raises(ValueError, match="keep the shapes"):
        attend(x, x, x, process_heads=lambda q, k, v: (q[:, :1], k, v))
