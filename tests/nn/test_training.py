import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from tolerances import kolmogorov_smirnov

import sedma_jax as sj
from sedma_jax.nn import (
    draw_programming,
    hardware_aware,
    plain,
    pulsed_updates,
    tiki_taka,
)

EPIRAM = sj.devices.EPIRAM
EXACT = dataclasses.replace(EPIRAM, sigma_c2c=0.0)
LINEAR = sj.Device(1e-6, 1e-5, 200, 200)


def distance(a, b):
    """Kolmogorov-Smirnov distance of two samples of one size."""
    both = np.sort(np.concatenate([a, b]))
    cdf = lambda s: np.searchsorted(np.sort(s), both, side="right") / len(s)
    return np.abs(cdf(a) - cdf(b)).max()


def test_noise_has_the_law_of_programming():
    layer = eqx.nn.Linear(96, 80, key=jr.key(0))
    aware = hardware_aware(layer, EPIRAM, array=(64, 64))
    drawn = draw_programming(aware, key=jr.key(1)).drawn
    crossbar, _ = sj.program(
        layer.weight, EPIRAM, array=(64, 64), scheme=sj.rewrite_and_verify, key=jr.key(2)
    )
    errors = [np.ravel(w - layer.weight) for w in (drawn, sj.stored_matrix(crossbar))]
    assert distance(*errors) < kolmogorov_smirnov(len(errors[0]), len(errors[0]))
    # A band that is a tenth wider is told apart.
    band = sj.acceptance_band(EPIRAM, half_width=0.0075)
    wider = hardware_aware(layer, EPIRAM, array=(64, 64), rule=band)
    wide = np.ravel(draw_programming(wider, key=jr.key(1)).drawn - layer.weight)
    assert distance(wide, errors[1]) > kolmogorov_smirnov(len(wide), len(wide))


def test_gradients_pass_straight_through():
    layer = eqx.nn.Linear(20, 6, key=jr.key(0))
    aware = hardware_aware(layer, EPIRAM, dac=sj.DAC(5), adc=sj.ADC(6))
    x = jr.normal(jr.key(1), (20,))
    cotangent = jnp.arange(1.0, 7.0)

    @eqx.filter_grad
    def gradient(pair):
        aware, x = pair
        return cotangent @ aware(x, key=jr.key(2))

    of_layer, of_x = gradient((aware, x))
    drive = np.abs(x).max()
    driven = np.round(np.asarray(x) / drive * 15) / 15 * drive
    np.testing.assert_allclose(of_layer.layer.weight, np.outer(cotangent, driven))
    np.testing.assert_array_equal(of_layer.layer.bias, cotangent)
    # The error of programming is 0.5 % of the window at most.
    np.testing.assert_allclose(
        of_x, cotangent @ layer.weight, atol=0.006 * 21 * np.abs(layer.weight).max()
    )


def test_convolutions_are_those_of_equinox():
    x = jr.normal(jr.key(1), (4, 9, 8))
    for options in (
        dict(groups=2, stride=2, padding=1),
        dict(dilation=2, padding="SAME", use_bias=False),
        dict(padding=1, padding_mode="CIRCULAR"),
    ):
        layer = eqx.nn.Conv2d(4, 6, 3, **options, key=jr.key(0))
        for dac in (None, sj.DAC(24)):
            aware = hardware_aware(layer, EXACT, dac=dac, array=(16, 4))
            y = eqx.filter_jit(aware)(x, key=jr.key(2))
            np.testing.assert_allclose(y, layer(x), atol=2e-5 if dac else 1e-12)


def test_converters_and_read_noise():
    weight = jnp.array([[1.0, -0.5, 0.25], [0.5, 0.5, -1.0]])
    layer = eqx.nn.Linear(3, 2, use_bias=False, key=jr.key(0))
    layer = eqx.tree_at(lambda l: l.weight, layer, weight)
    x = jnp.array([1.0, 0.4, -0.7])
    aware = hardware_aware(layer, EXACT, dac=sj.DAC(3), adc=sj.ADC(4))
    volts = np.array([3, 1, -2]) / 3
    currents = np.asarray(weight) @ volts
    lsb = np.abs(currents).max() / 7
    expected = np.round(currents / lsb) * lsb
    np.testing.assert_allclose(aware(x, key=jr.key(0)), expected, atol=1e-12)
    noisy = dataclasses.replace(EXACT, sigma_read=0.01)
    drawn = draw_programming(
        hardware_aware(layer, noisy, scheme=sj.open_loop), key=jr.key(0)
    )
    n = 4000
    y = jax.vmap(lambda key: drawn(x, key=key))(jr.split(jr.key(3), n))
    std = 0.01 * np.sqrt(2 * np.sum(np.asarray(x) ** 2))
    np.testing.assert_allclose(np.std(y, axis=0), std, rtol=4.9 / np.sqrt(2 * n))


def test_training_lowers_the_loss_of_the_programmed_network():
    keys = jr.split(jr.key(0), 4)
    model = eqx.nn.Sequential(
        [
            eqx.nn.Linear(8, 16, key=keys[0]),
            eqx.nn.Lambda(jax.nn.tanh),
            eqx.nn.Linear(16, 2, key=keys[1]),
        ]
    )
    xs = jr.normal(keys[2], (64, 8))
    ys = jnp.stack([xs[:, 0] * xs[:, 1], xs[:, 2]], axis=1)
    aware = hardware_aware(model, EPIRAM, dac=sj.DAC(6), adc=sj.ADC(6), clip=2.5)
    optimiser = optax.sgd(0.2)

    def loss(model, key):
        noisy = draw_programming(model, key=key)
        y = jax.vmap(lambda x: noisy(x, key=key))(xs)
        return jnp.mean((y - ys) ** 2)

    @eqx.filter_jit
    def step(model, state, key):
        value, gradient = eqx.filter_value_and_grad(loss)(model, key)
        updates, state = optimiser.update(gradient, state)
        return eqx.apply_updates(model, updates), state, value

    state = optimiser.init(eqx.filter(aware, eqx.is_inexact_array))
    losses = []
    for key in jr.split(keys[3], 150):
        aware, state, value = step(aware, state, key)
        losses.append(float(value))
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    digital = plain(aware)
    assert type(digital.layers[0]) is eqx.nn.Linear
    weight = np.asarray(aware.layers[0].layer.weight)
    limit = 2.5 * np.sqrt((weight**2).mean(axis=1, keepdims=True))
    np.testing.assert_allclose(digital.layers[0].weight, np.clip(weight, -limit, limit))


def test_a_linear_device_does_what_sgd_does():
    params = {"w": jr.normal(jr.key(0), (5, 7)) / 8, "b": jnp.zeros(5), "none": None}
    gradient = jax.tree.map(lambda leaf: jr.normal(jr.key(1), leaf.shape), params)
    optimiser = optax.chain(
        optax.sgd(0.01), pulsed_updates(LINEAR, w_max=1.0, key=jr.key(2))
    )
    state = optimiser.init(params)
    update = jax.jit(optimiser.update)
    got = params
    for steps in range(1, 6):
        updates, state = update(gradient, state, got)
        got = optax.apply_updates(got, updates)
        for name in ("w", "b"):
            exact = params[name] - 0.01 * steps * gradient[name]
            assert np.all(np.abs(got[name] - exact) < steps * 2 / 200 + 1e-12)
    moved = np.round(np.abs(np.asarray(got["b"]) * 100)).astype(int)
    counted = state[1].pulses["b"]
    # All pulses of one cell had one sign.
    np.testing.assert_array_equal(counted, moved)
    assert state[1].energy > 0


def test_weights_beyond_the_window_are_clipped_and_others_kept():
    params = jnp.array([[1.7, 0.123456789, -3.0]])
    optimiser = pulsed_updates(EPIRAM, w_max=1.0, key=jr.key(0))
    updates, _ = optimiser.update(jnp.zeros((1, 3)), optimiser.init(params), params)
    np.testing.assert_array_equal(params + updates, [[1.0, 0.123456789, -1.0]])


def test_tiki_taka_transfers_one_column_in_turn():
    params = jnp.zeros((3, 4))
    optimiser = tiki_taka(
        LINEAR, w_max=1.0, transfer_every=2, transfer_rate=1.0, key=jr.key(0)
    )
    update, state, moved = jax.jit(optimiser.update), optimiser.init(params), []
    for _ in range(8):
        # 20 pulses of A, exactly.
        updates, state = update(jnp.full((3, 4), 0.2), state, params)
        params = params + updates
        moved.append(np.flatnonzero(np.any(updates != 0, axis=0)).tolist())
    assert moved == [[], [0], [], [1], [], [2], [], [3]]
    # A grows by 0.2 an update up to the end of its window, and C takes over what it is.
    expected = np.minimum(0.2 * 2 * np.arange(1, 5), 1.0)
    np.testing.assert_allclose(params, np.broadcast_to(expected, (3, 4)), atol=2 / 200)
    assert np.all(state.fast_pulses == 160)


def settle(transformation, rate, seed, steps=20_000):
    """Mean of the weights over the last half of a noisy regression, and the truth."""
    keys = jr.split(jr.key(seed), 2)
    truth = jr.uniform(keys[0], (1, 6), minval=-0.6, maxval=0.6)
    optimiser = optax.chain(optax.sgd(rate), transformation)
    params = jnp.zeros((1, 6))

    def step(carry, key):
        w, state = carry
        x_key, noise_key = jr.split(key)
        x = jr.normal(x_key, (6,))
        error = (w - truth) @ x + 0.5 * jr.normal(noise_key, (1,))
        updates, state = optimiser.update(jnp.outer(error, x), state, w)
        w = w + updates
        return (w, state), w

    start = params, optimiser.init(params)
    _, ws = jax.lax.scan(step, start, jr.split(keys[1], steps))
    return jnp.mean(ws[steps // 2 :], axis=0), truth


def test_tiki_taka_undoes_the_bias_of_asymmetric_devices():
    # Steps shrink towards both ends, so noise pulls weights to the middle.
    device = sj.Device(
        1e-6, 1e-5, 500, 500, nonlinearity_ltp=5.0, nonlinearity_ltd=-5.0, sigma_c2c=0.005
    )
    plainly = jax.jit(lambda seed, key: settle(
        pulsed_updates(device, w_max=1.0, key=key), 0.02, seed))  # fmt: skip
    transferred = jax.jit(lambda seed, key: settle(
        tiki_taka(device, w_max=1.0, transfer_every=2, transfer_rate=0.1, key=key),
        0.02, seed))  # fmt: skip
    bias = {"sgd": [], "tiki-taka": []}
    for seed in range(4):
        for name, run in (("sgd", plainly), ("tiki-taka", transferred)):
            mean, truth = run(seed, jr.key(seed))
            bias[name].append(float(jnp.linalg.norm(mean - truth) / jnp.linalg.norm(truth)))
    assert max(bias["tiki-taka"]) < 0.5 * min(bias["sgd"])


def test_learned_ranges_of_converters_get_a_gradient():
    linear = eqx.nn.Linear(4, 3, use_bias=False, key=jr.key(0))
    x, key = jnp.array([5.0, -7.0, 9.0, 6.0]), jr.key(1)
    cases = {"adc": sj.ADC, "dac": sj.DAC}
    for name, kind in cases.items():
        for learned in (True, False):
            # All currents, or all inputs, are beyond the range: results grow with it.
            converter = kind(8, jnp.asarray(1e-4), learned=learned)
            model = hardware_aware(linear, EPIRAM, array=4, **{name: converter})
            loss = lambda model: jnp.sum(model(x, key=key))
            y, slope = eqx.filter_value_and_grad(loss)(model)
            found = getattr(slope.hardware, name).full_scale
            np.testing.assert_allclose(found, float(learned) * float(y) / 1e-4, rtol=1e-9)


def test_errors_say_what_to_do():
    linear = eqx.nn.Linear(2, 2, key=jr.key(0))
    with pytest.raises(ValueError, match="Leave it out to clip nothing"):
        hardware_aware(linear, EPIRAM, clip=0.0)
    with pytest.raises(ValueError, match="hardware-aware already"):
        hardware_aware(linear, EPIRAM, where=lambda path, layer: False)
    with pytest.raises(ValueError, match="one `full_scale` for all tiles"):
        hardware_aware(linear, EPIRAM, adc=sj.ADC(8, jnp.ones((2, 1, 1))))
    errors = sj.ConverterErrors(offset=1.0)
    with pytest.raises(ValueError, match="without `errors`"):
        hardware_aware(linear, EPIRAM, adc=sj.ADC(8, errors=errors))
    learned = sj.ADC(8, jnp.asarray(1.0), learned=True)
    with pytest.raises(ValueError, match="on a `Device` alone"):
        hardware_aware(linear, EPIRAM, adc=learned, scaling=sj.global_scale)
    with pytest.raises(ValueError, match="largest weight you expect"):
        pulsed_updates(EPIRAM, w_max=0.0, key=jr.key(0))
    with pytest.raises(ValueError, match="`transfer_every` to be at least 1"):
        tiki_taka(EPIRAM, w_max=1.0, transfer_every=0, transfer_rate=1.0, key=jr.key(0))
    optimiser = pulsed_updates(EPIRAM, w_max=1.0, key=jr.key(0))
    with pytest.raises(ValueError, match="update\\(gradients, state, params\\)"):
        optimiser.update(jnp.ones((2, 2)), optimiser.init(jnp.ones((2, 2))))
