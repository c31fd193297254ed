"""Layers in half precision, and layers of several matrices: right, or refused by path."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from tolerances import gamma

import sedma_jax as sj

# Pulses so fine that what is accepted is the target to rounding; reads draw nothing.
IDEAL = sj.Device(0.0, 1e-5, 2**60, 2**60)
FAST = dict(scheme=sj.sampled_rewrite, array=(8, 8))
HALF = [jnp.bfloat16, jnp.float16]
KEY = jr.key(0)
X = np.linspace(-1, 1, 6)


def check(y, layer_weight, bias, x, dtype):
    """`y` is `W x + b` of the half-precision numbers, rounded once to their dtype."""
    weight, bias, x = (np.asarray(a, np.float64) for a in (layer_weight, bias, x))
    assert y.dtype == dtype
    exact = weight @ x + bias
    # Of each weight: its scale, conductance and reference, to rounding of the largest.
    largest = np.abs(weight).max() * np.abs(x).sum()
    bound = gamma(32, np.float32) * (largest + np.abs(bias).max())
    half = float(jnp.finfo(dtype).eps) / 2
    assert (np.abs(np.asarray(y, np.float64) - exact) <= half * np.abs(exact) + bound).all()


@pytest.mark.parametrize("dtype", HALF)
def test_equinox_answers_in_half_precision(dtype):
    layer, x = eqx.nn.Linear(6, 4, dtype=dtype, key=KEY), jnp.asarray(X, dtype)
    analog = sj.nn.analogize(layer, IDEAL, key=KEY, **FAST)
    assert analog.matrix.crossbar.dtype == jnp.float32
    check(analog(x, key=KEY), layer.weight, layer.bias, x, dtype)
    back = sj.nn.digitize(analog)
    assert back.weight.dtype == dtype
    assert np.array_equal(back.weight, layer.weight)
    assert sj.nn.inspect(analog, layer)[0].error < 1e-6
    aware = sj.nn.hardware_aware(layer, IDEAL, array=(8, 8))
    drawn = sj.nn.draw_programming(aware, key=KEY)
    check(drawn(x, key=KEY), layer.weight, layer.bias, x, dtype)
    assert sj.nn.plain(sj.nn.hardware_aware(layer, IDEAL, clip=2.0)).weight.dtype == dtype


@pytest.mark.parametrize("dtype", HALF)
def test_nnx_answers_in_half_precision(dtype):
    layer, x = nnx.Linear(6, 4, param_dtype=dtype, rngs=nnx.Rngs(0)), jnp.asarray(X, dtype)
    analog = sj.nn.flax.analogize(layer, IDEAL, rngs=nnx.Rngs(1), **FAST)
    check(analog(x), layer.kernel[...].T, layer.bias[...], x, dtype)
    back = sj.nn.flax.digitize(analog)
    assert back.kernel[...].dtype == dtype
    assert np.array_equal(back.kernel[...], layer.kernel[...])


def test_a_refusal_names_the_layer():
    model = eqx.nn.MLP(6, 4, 8, 1, key=KEY)
    bad = eqx.tree_at(lambda m: m.layers[1].weight, model, replace_fn=lambda w: w * jnp.nan)
    with pytest.raises(ValueError, match=r"finite.*layers\[1\]"):
        sj.nn.analogize(bad, IDEAL, key=KEY, **FAST)
    layer = nnx.Linear(6, 4, rngs=nnx.Rngs(0))
    layer.kernel = nnx.Param(layer.kernel[...] * jnp.nan)
    with pytest.raises(ValueError, match=r"finite.*'\[0\]'"):
        sj.nn.flax.analogize(nnx.List([layer]), IDEAL, rngs=nnx.Rngs(1), **FAST)


STACKED = {
    "linear": (lambda rngs: nnx.Linear(6, 6, rngs=rngs), r"\(3, 6, 6\).*'inner'"),
    "general": (
        lambda rngs: nnx.LinearGeneral((2, 3), 6, axis=(-2, -1), rngs=rngs),
        r"\(3, 2, 3, 6\)",
    ),
    "conv": (lambda rngs: nnx.Conv(2, 2, (3,), rngs=rngs), r"\(3, 3, 2, 2\).*'inner'"),
    "embed": (lambda rngs: nnx.Embed(5, 6, rngs=rngs), r"\(3, 5, 6\).*'inner'"),
}


@pytest.mark.parametrize("kind", STACKED)
def test_layers_that_nnx_stacked_are_refused(kind):
    make, said = STACKED[kind]

    class Net(nnx.Module):
        def __init__(self, rngs):
            stack = nnx.vmap(make, in_axes=(0,), out_axes=0)
            self.inner = nnx.split_rngs(splits=3)(stack)(rngs)

    with pytest.raises(ValueError, match=said):
        sj.nn.flax.analogize(
            Net(nnx.Rngs(0)), IDEAL, where=lambda *_: True, rngs=nnx.Rngs(1), **FAST
        )


def test_layers_that_equinox_stacked():
    layers = eqx.filter_vmap(lambda key: eqx.nn.Linear(6, 6, False, key=key))(
        jr.split(KEY, 3)
    )
    with pytest.raises(ValueError, match=r"one weight of their own.*\(3, 6, 6\)"):
        sj.nn.analogize(layers, IDEAL, key=KEY, **FAST)
    one = lambda layer: sj.nn.analogize(layer, IDEAL, key=KEY, **FAST)
    analog = eqx.filter_vmap(one)(layers)
    for use in (sj.nn.digitize, sj.nn.inspect, lambda a: a(jnp.ones(6), key=KEY)):
        with pytest.raises(ValueError, match=r"one matrix.*\(3,\)"):
            use(analog)
    # One by one they are what was programmed.
    back = eqx.filter_vmap(sj.nn.digitize)(analog)
    assert np.abs(back.weight - layers.weight).max() <= gamma(32, np.float32)
    aware = sj.nn.hardware_aware({"a": layers}, IDEAL, clip=2.0, array=(8, 8))
    with pytest.raises(ValueError, match=r"2 axes.*\(3, 6, 6\).*'a'"):
        sj.nn.draw_programming(aware, key=KEY)
    with pytest.raises(ValueError, match=r"2 axes.*\(3, 6, 6\).*'a'"):
        sj.nn.plain(aware)


def test_hardware_aware_leaves_what_computes_otherwise():
    class Doubled(eqx.nn.Linear):
        def __call__(self, x, *, key=None):
            return 2 * super().__call__(x)

    plain = eqx.nn.Linear(6, 4, key=KEY)
    normed = eqx.nn.WeightNorm(plain)
    model = {"own": Doubled(6, 4, key=KEY), "norm": normed, "plain": plain}
    aware = sj.nn.hardware_aware(model, IDEAL, array=(8, 8))
    assert type(aware["own"]) is Doubled and type(aware["norm"].layer) is eqx.nn.Linear
    assert isinstance(aware["plain"], sj.nn.HardwareAwareLinear)


@pytest.mark.parametrize("make", [sj.nn.pulsed_updates, sj.nn.tiki_taka])
def test_pulses_that_half_precision_would_round_away(make):
    more = {"transfer_every": 1, "transfer_rate": 0.1} if make is sj.nn.tiki_taka else {}
    updates = make(sj.devices.EPIRAM, w_max=1.0, key=KEY, **more)
    with pytest.raises(ValueError, match=r"rounded away. Got bfloat16 at \"\['w'\]\""):
        updates.init({"w": jnp.ones((2, 2), jnp.bfloat16)})


def test_a_bias_in_half_precision_under_a_trace():
    layer = eqx.nn.Conv1d(2, 3, 3, dtype=jnp.bfloat16, key=KEY)
    analog = sj.nn.analogize(layer, IDEAL, key=KEY, **FAST)
    x = jnp.asarray(np.linspace(-1, 1, 10).reshape(2, 5), jnp.bfloat16)
    y = jax.jit(lambda x: analog(x, key=KEY))(x)
    # The sums of Equinox are in bfloat16 too: six products and a bias.
    assert y.dtype == jnp.bfloat16
    error = np.abs(np.asarray(y, np.float64) - np.asarray(layer(x), np.float64))
    assert error.max() <= gamma(8, np.float32) * 2**16 * 3
