"""Networks of published statistics, and what becomes of them over time."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import PolynomialCurve, PowerLawDrift
from tolerances import mean_atol, var_atol

import sedma_jax as sj
from sedma_jax.nn import age, analogize

PCM, CMO = sj.noise_models.PCM, sj.noise_models.CMO_HFOX
# From zero up and without a transistor, weights are proportional to conductances.
DEVICE = dataclasses.replace(sj.devices.EPIRAM, g_min=0.0, r_access=0.0)
YEAR = 3.15e7
MODEL = [eqx.nn.Linear(40, 30, key=jr.key(0)), eqx.nn.Linear(40, 30, key=jr.key(1))]
FAST = dict(scheme=sj.sampled_rewrite, array=(64, 32), key=jr.key(2))
# One exponent for all cells: all that drift does then is one factor.
SAME = PowerLawDrift(PolynomialCurve((0.05,), 1.0), PolynomialCurve((0.0,), 1.0), 20.0)


def factor(seconds):
    return (1 + np.asarray(seconds) / 20) ** -0.05


def weights(model):
    return [layer.matrix.crossbar.stored_matrix() for layer in model]


def assert_standard_normal(draws):
    n = draws.size
    np.testing.assert_allclose(np.mean(draws), 0, rtol=0, atol=mean_atol(1, n))
    np.testing.assert_allclose(np.var(draws, ddof=1), 1, rtol=0, atol=var_atol(1, n))


def test_statistics_stand_for_programming():
    analog = analogize(MODEL[0], PCM, array=(64, 32), key=jr.key(2))
    matrix = analog.matrix
    assert matrix.stats is None
    target, cells = np.asarray(matrix.target), np.asarray(matrix.crossbar.conductance)
    # Fit of Joshi et al. (2020), in microsiemens; cells far from zero are never cut off.
    held = target > 5e-6
    u = target[held] / 25e-6
    assert_standard_normal(
        (cells - target)[held] / (1e-6 * (0.26348 + 1.9650 * u - 1.1731 * u**2))
    )
    # Reads draw the 1/f noise of the array.
    x = jnp.ones(40)
    assert np.all(analog(x, key=jr.key(0)) != analog(x, key=jr.key(1)))
    with pytest.raises(ValueError, match="with_read_keys"):
        analog(x)


def test_every_layer_drifts_by_the_law_of_its_array():
    analog = analogize(MODEL, PCM, array=(64, 32), key=jr.key(2))
    exponents = []
    for seconds in (3600.0, YEAR):
        old = age(analog, seconds, key=jr.key(3))
        for layer, before in zip(old, analog, strict=True):
            now, then = (np.asarray(n.matrix.crossbar.conductance) for n in (layer, before))
            held = np.asarray(before.matrix.target) > 15e-6
            exponents.append(-np.log(now[held] / then[held]) / np.log1p(seconds / 20))
            u = np.log(np.asarray(before.matrix.target)[held] / 25e-6)
            mean = np.clip(-0.0155 * u + 0.0244, 0.049, 0.1)
            deviation = np.clip(-0.0125 * u - 0.0059, 0.008, 0.045)
            assert_standard_normal((exponents[-1] - mean) / deviation)
            # 1/f noise grows with time: the same cells had less right after programming.
            held = [n.matrix.crossbar for n in (before, layer)]
            quiet = dataclasses.replace(held[1], read_variance=None)
            less = sj.with_read_noise(quiet, PCM.read, 0.0, held[0]).read_variance
            assert np.sum(less) < 0.8 * np.sum(held[1].read_variance)
    # Cells keep their exponents, and layers have cells of their own.
    np.testing.assert_allclose(exponents[0], exponents[2], rtol=1e-9)
    np.testing.assert_allclose(exponents[1], exponents[3], rtol=1e-9)
    few = min(map(len, exponents))
    assert np.all(exponents[0][:few] != exponents[1][:few])


def test_networks_over_times_under_jit_and_vmap():
    analog = analogize(MODEL, DEVICE, **FAST)
    times = jnp.array([0.0, 3600.0, YEAR])
    over_time = lambda t: weights(age(analog, t, drift=SAME, key=jr.key(3)))
    curves = jax.jit(jax.vmap(over_time))(times)
    for curve, weight in zip(curves, weights(analog), strict=True):
        for now, share in zip(curve, factor(times), strict=True):
            np.testing.assert_allclose(now, share * weight, rtol=0, atol=1e-13)


def test_compensation_undoes_a_loss_in_proportion():
    analog = analogize(MODEL[0], DEVICE, **FAST)
    old = age(analog, YEAR, drift=SAME, compensation_reads=8, key=jr.key(3))
    np.testing.assert_allclose(weights([old]), weights([analog]), rtol=0, atol=1e-12)
    # Of real cells it undoes the mean, and not the spread.
    analog = analogize(MODEL, PCM, array=(64, 32), key=jr.key(2))
    aged = lambda reads: age(analog, YEAR, compensation_reads=reads, key=jr.key(3))
    errors = [
        [float(figure.error) for figure in sj.nn.inspect(model, MODEL)]
        for model in (analog, aged(64), aged(0))
    ]
    assert np.all(np.diff(errors, axis=0) > 0.03)


def test_laws_by_layer_and_pools():
    pool = sj.Pool([sj.ArrayKind(64, 32, 1, DEVICE)])
    options = {"[1]": dict(scheme=sj.write_and_verify)}
    analog = analogize(MODEL, DEVICE, plans={"[1]": pool}, layer_options=options, **FAST)
    laws = {"": CMO.drift, "[1]": SAME}
    old = age(analog, YEAR, drift=laws, key=jr.key(3))
    first, second = (now - factor(YEAR) * then for now, then in
                     zip(*map(weights, (old, analog)), strict=True))  # fmt: skip
    assert np.abs(first).max() > 0.01
    np.testing.assert_allclose(second, 0, rtol=0, atol=1e-13)
    shared = age([analog[0]] * 2, YEAR, drift=CMO.drift, key=jr.key(3))
    assert shared[0] is shared[1]


def test_corrected_products_of_statistics():
    x = jr.normal(jr.key(5), (8, 40))
    analog = analogize(MODEL[0], CMO, corrected=True, array=(64, 32), key=jr.key(2))
    raw = eqx.tree_at(lambda layer: layer.matrix.exact, analog, None)
    exact = x @ MODEL[0].weight.T + MODEL[0].bias[None]
    errors = [np.linalg.norm(n(x, key=jr.key(3)) - exact) for n in (analog, raw)]
    assert errors[0] < 0.2 * errors[1]


def test_embeddings_and_convolutions_of_statistics():
    model = [
        eqx.nn.Embedding(50, 30, key=jr.key(0)),
        eqx.nn.Conv1d(4, 4, 3, groups=2, key=jr.key(1)),
    ]
    everything = lambda path, layer: True
    embed, conv = analogize(model, CMO, where=everything, array=(64, 32), key=jr.key(2))
    entry = model[0].weight[7]
    error = np.abs(embed(jnp.asarray(7), key=jr.key(0)) - entry).max()
    assert 1e-4 < error < 0.1 * np.abs(entry).max()
    x = jr.normal(jr.key(3), (4, 9))
    error = np.abs(conv(x, key=jr.key(0)) - model[1](x)).max()
    assert 1e-4 < error < 0.1


def test_errors_say_what_to_do():
    analog = analogize(MODEL, DEVICE, **FAST)
    late = lambda *args, **options: age(*args, **options, key=jr.key(0))
    with pytest.raises(ValueError, match=r"drift model.*'\[0\]', '\[1\]'.*Pass `drift`"):
        late(analog, 1.0)
    with pytest.raises(ValueError, match="model with analog layers"):
        late(MODEL, 1.0, drift=SAME)
    with pytest.raises(ValueError, match=r"paths in `drift`.*\['\[2\]'\]"):
        late(analog, 1.0, drift={"": SAME, "[2]": SAME})
    with pytest.raises(ValueError, match="`seconds` from 0 up"):
        late(analog, -1.0, drift=SAME)
    with pytest.raises(ValueError, match="`compensation_reads` to be at least 0"):
        late(analog, 1.0, drift=SAME, compensation_reads=-1)
    with pytest.raises(ValueError, match="one typed key"):
        age(analog, 1.0, drift=SAME, key=jr.PRNGKey(0))
    for options in (
        dict(scheme=sj.sampled_rewrite),
        dict(rule=sj.stagnation()),
        dict(arrays=1),
    ):
        with pytest.raises(ValueError, match=r"published statistics.*Leave it out"):
            analogize(MODEL, PCM, key=jr.key(0), **options)
