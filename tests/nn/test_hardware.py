"""Layers trained against more than programming: statistics, drift, wires, converters."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from sedma_jax.kernels import PolynomialCurve, PowerLawDrift
from tolerances import gamma, mean_atol, var_atol

import sedma_jax as sj
from sedma_jax.nn import draw_programming, hardware_aware, with_read_keys

PCM, EPIRAM = sj.noise_models.PCM, sj.devices.EPIRAM
# Pulses so fine that what is accepted is the target to rounding.
IDEAL = sj.Device(1e-6, 1e-5, 2**60, 2**60)
YEAR = 3.15e7
# All cells lose in proportion.
SAME = PowerLawDrift(PolynomialCurve((0.05,), 1.0), PolynomialCurve((0.0,), 1.0), 20.0)
LAYER = eqx.nn.Linear(20, 12, key=jr.key(0))
wires = lambda crossbar, key: sj.with_line_resistance(crossbar, 20.0, 20.0)


def factor(seconds):
    return (1 + seconds / 20.0) ** -0.05


def test_models_that_pass_no_keys_on():
    mlp = eqx.nn.MLP(5, 3, 6, depth=1, key=jr.key(0))
    same = jnp.ones((4, 5))
    aware = hardware_aware(mlp, EPIRAM, array=8)
    with pytest.raises(ValueError, match="with_read_keys"):
        jax.vmap(aware)(same)
    run = jax.jit(lambda key: jax.vmap(with_read_keys(aware, key=key))(same))
    ys = [run(jr.key(n)) for n in (1, 1, 2)]
    # One programming for all examples of a call; this device reads without noise.
    assert np.ptp(ys[0], axis=0).max() <= gamma(40, np.float64) * 10
    np.testing.assert_array_equal(ys[0], ys[1])
    assert np.all(ys[0] != ys[2])
    # Read noise differs from example to example, and from token to token.
    noisy = with_read_keys(hardware_aware(mlp, PCM, array=8), key=jr.key(1))
    assert np.all(np.ptp(jax.vmap(lambda x: noisy(x))(same), axis=0) > 0)
    attend = eqx.nn.MultiheadAttention(num_heads=2, query_size=4, key=jr.key(0))
    tokens = jnp.ones((3, 4))
    aware = hardware_aware(attend, PCM, array=8)
    loss = lambda model: jnp.sum(with_read_keys(model, key=jr.key(1))(*[tokens] * 3) ** 2)
    slopes = jax.tree.leaves(eqx.filter_jit(eqx.filter_grad(loss))(aware))
    assert all(np.all(np.isfinite(slope)) for slope in slopes)
    run = eqx.filter_jit(lambda key: with_read_keys(aware, key=key)(*[tokens] * 3))
    y = run(jr.key(1))
    assert np.all(np.ptp(y, axis=0) > 0)


def test_statistics_draw_what_such_an_array_would_hold():
    wide = eqx.nn.Linear(90, 80, key=jr.key(0))
    noisy = draw_programming(hardware_aware(wide, PCM, array=64), key=jr.key(1))
    target, cells = noisy.arrays.target, noisy.arrays.crossbar.conductance
    held = np.asarray(target) > 5e-6
    # Fit of Joshi et al. (2020), in microsiemens; such cells are never cut off at zero.
    u = np.asarray(target)[held] / 25e-6
    sigma = 1e-6 * (0.26348 + 1.9650 * u - 1.1731 * u**2)
    draws = (np.asarray(cells)[held] - target[held]) / sigma
    np.testing.assert_allclose(np.mean(draws), 0, atol=mean_atol(1, len(draws)))
    np.testing.assert_allclose(np.var(draws, ddof=1), 1, atol=var_atol(1, len(draws)))
    # Gradients are those of a digital product with the weights that the arrays hold.
    x, cotangent = jr.normal(jr.key(2), (90,)), jr.normal(jr.key(3), (80,))
    aware = hardware_aware(wide, PCM, array=64)
    draw = lambda layer: draw_programming(layer, key=jr.key(1))
    run = lambda pair: cotangent @ draw(pair[0])(pair[1], key=jr.key(4))
    of_layer, of_x = eqx.filter_grad(run)((aware, x))
    np.testing.assert_allclose(of_layer.layer.weight, np.outer(cotangent, x), rtol=1e-12)
    np.testing.assert_allclose(of_x, cotangent @ noisy.drawn, rtol=0, atol=1e-12)
    mean = wide.bias + noisy.drawn @ x
    assert 1e-4 < np.abs(noisy(x, key=jr.key(4)) - mean).max() < 0.5


def test_drift_to_one_time_or_several():
    aware = hardware_aware(LAYER, IDEAL, array=16, drift=SAME, seconds=(0.0, YEAR))
    weight = np.asarray(LAYER.weight)
    at = lambda t: draw_programming(aware, t, key=jr.key(1)).drawn
    times = jnp.array([0.0, 3600.0, YEAR])
    for drawn, share in zip(jax.jit(jax.vmap(at))(times), factor(times), strict=True):
        np.testing.assert_allclose(drawn, share * weight, rtol=0, atol=1e-12)
    shares = [
        float(draw_programming(aware, key=jr.key(n)).drawn[0, 0] / weight[0, 0])
        for n in range(12)
    ]
    assert set(np.round(shares, 9)) == {1.0, round(factor(YEAR), 9)}
    aware = hardware_aware(
        LAYER, IDEAL, array=16, drift=SAME, seconds=YEAR, compensation_reads=4
    )
    drawn = draw_programming(aware, key=jr.key(1)).drawn
    np.testing.assert_allclose(drawn, weight, rtol=0, atol=1e-12)


def test_wires_and_converters_in_the_loop():
    converters = dict(dac=sj.DAC(6), adc=sj.ADC(7))
    aware = hardware_aware(LAYER, IDEAL, array=16, effects=wires, **converters)
    x = jr.normal(jr.key(1), (20,))
    exact = sj.program_exactly(LAYER.weight, IDEAL, array=16)
    real = wires(exact, key=None)
    expected = sj.matvec(real, x, key=jr.key(0), **converters) + LAYER.bias
    np.testing.assert_allclose(aware(x, key=jr.key(2)), expected, rtol=0, atol=1e-12)
    assert np.abs(expected - LAYER(x)).max() > 1e-3
    # Training finds weights whose product is right behind the wires.
    xs = jr.normal(jr.key(3), (64, 20))
    ys = jax.vmap(LAYER)(xs)
    wired = hardware_aware(LAYER, IDEAL, array=16, effects=wires)

    def loss(model):
        drawn = draw_programming(model, key=jr.key(4))
        return jnp.mean((jax.vmap(lambda x: drawn(x, key=jr.key(5)))(xs) - ys) ** 2)

    @eqx.filter_jit
    def step(model):
        value, slope = eqx.filter_value_and_grad(loss)(model)
        return eqx.apply_updates(model, jax.tree.map(lambda s: -0.2 * 6 * s, slope)), value

    losses = []
    for _ in range(20):
        wired, value = step(wired)
        losses.append(float(value))
    assert losses[-1] < 0.05 * losses[0]


def test_no_layer_is_converted_twice():
    mlp = eqx.nn.MLP(5, 3, 6, depth=1, key=jr.key(0))
    first = lambda path, layer: path == "layers[0]"
    program = dict(scheme=sj.sampled_rewrite, array=8, key=jr.key(1))
    aware = hardware_aware(mlp, IDEAL, where=first)
    analog = sj.nn.analogize(mlp, IDEAL, where=first, **program)
    again = r"converts none twice. Got {} at 'layers\[0\]'. Start from `sedma_jax.nn.{}`"
    for model, named in (
        (aware, again.format("HardwareAwareLinear", "plain")),
        (analog, again.format("AnalogLinear", "digitize")),
    ):
        for convert in (
            lambda model: sj.nn.analogize(model, IDEAL, **program),
            lambda model: hardware_aware(model, IDEAL),
        ):
            with pytest.raises(ValueError, match=named):
                convert(model)
    # What `where` leaves out may be converted already.
    rest = lambda path, layer: path == "layers[1]"
    both = sj.nn.analogize(analog, IDEAL, where=rest, **program)
    assert [type(layer).__name__ for layer in both.layers] == ["AnalogLinear"] * 2
    rngs = dict(rngs=nnx.Rngs(1))
    layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    for make, name in ((sj.nn.flax.hardware_aware, "HardwareAware"),
                       (sj.nn.flax.analogize, "AnalogLinear")):  # fmt: skip
        once = make(layer, EPIRAM, array=8, **rngs)
        for convert in (sj.nn.flax.hardware_aware, sj.nn.flax.analogize):
            with pytest.raises(ValueError, match=f"twice. Got {name} at ''"):
                convert(once, EPIRAM, array=8, **rngs)


def test_wrong_options_are_refused():
    for options, message in (
        (dict(seconds=1.0), "needs a drift model"),
        (dict(seconds=[1.0, -1.0], drift=SAME), r"`seconds\[1\]` from 0 up"),
        (dict(compensation_reads=-1), "`compensation_reads` to be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            hardware_aware(LAYER, IDEAL, **options)
    with pytest.raises(ValueError, match="`Device` for a scheme or a rule"):
        hardware_aware(LAYER, PCM, scheme=sj.open_loop)
    with pytest.raises(ValueError, match="`seconds` from 0 up"):
        draw_programming(hardware_aware(LAYER, PCM), -1.0, key=jr.key(0))


def nnx_case(name):
    """A digital module of NNX, and an input."""
    own = dict(param_dtype=np.float64, rngs=nnx.Rngs(0))
    if name == "grouped":
        size = dict(strides=(2, 1), feature_group_count=2)
        return nnx.Conv(4, 6, (3, 2), **size, **own), (2, 5, 6, 4)
    if name == "attention":  # its softmax in double needs promotion, which tests forbid
        own = dict(decode=False, rngs=nnx.Rngs(0))
        return nnx.MultiHeadAttention(2, 6, 4, 5, **own), (2, 3, 6)
    return nnx.LinearGeneral((4, 3), (2, 5), axis=(-1, 1), **own), (2, 4, 6, 3)


@pytest.mark.parametrize("name", ["general", "grouped", "attention"])
def test_nnx_models_train_as_those_of_equinox(name):
    digital, shape = nnx_case(name)
    dtype = np.float32 if name == "attention" else np.float64
    x = jr.normal(jr.key(1), shape, dtype)
    make = lambda device, **how: sj.nn.flax.hardware_aware(
        digital, device, array=(16, 8), rngs=nnx.Rngs(1), **how
    )
    atol = gamma(400, dtype)
    expected = digital(x)
    arrays = dict(effects=lambda crossbar, key: crossbar)
    for how in ({},) if name == "attention" else ({}, arrays):
        y = make(IDEAL, **how)(x)
        assert y.dtype == expected.dtype
        np.testing.assert_allclose(y, expected, rtol=0, atol=atol)
    if name != "general":
        return
    noisy = make(PCM, seconds=3600.0, clip=1.0)
    assert np.all(noisy(x) != noisy(x))
    drawn = sj.nn.flax.draw_programming(noisy, 60.0, key=jr.key(2))
    back = sj.nn.flax.plain(noisy)
    limited = np.abs(back.kernel[...]) <= np.abs(digital.kernel[...])
    assert np.all(limited) and np.any(back.kernel[...] != digital.kernel[...])

    @nnx.grad
    def slope(model):
        return jnp.sum(sj.nn.flax.draw_programming(model, 60.0, key=jr.key(2))(x))

    # Straight through: that of the digital sum, where a weight is not clipped.
    exact = nnx.grad(lambda model: jnp.sum(model(x)))(digital).kernel[...]
    kept = back.kernel[...] == digital.kernel[...]
    np.testing.assert_allclose(
        slope(noisy).layer.kernel[...], np.where(kept, exact, 0), atol=1e-12
    )
    assert np.abs(drawn(x) - back(x)).max() > 1e-3
