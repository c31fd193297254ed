"""Retention is found from cells that are read at several times, or refused."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from tolerances import Z

import sedma_jax as sj

CELLS = 300
TIMES = np.concatenate([[0.0], np.geomspace(0.5, 1e5, 24)])
START = np.linspace(5e-6, 5e-5, CELLS)
T_0, READ = 20.0, 1e-3


def drawn(law, mean, spread, seed=0):
    """Conductances of a known law, with noise of the reads, in NumPy; and coefficients."""
    rng = np.random.default_rng(seed)
    c = rng.normal(mean, spread, CELLS)
    growth = np.outer(c, np.log1p(TIMES / T_0))
    g = 1 + growth if law == "logarithmic" else np.exp(-growth)
    return START[:, None] * g * (1 + READ * rng.normal(size=g.shape)), c


@pytest.mark.parametrize(
    "law, mean, spread", [("logarithmic", -0.02, 0.005), ("power", 0.05, 0.01)]
)
def test_a_known_law_is_found(law, mean, spread):
    g, c = drawn(law, mean, spread)
    found = sj.devices.fit_retention(TIMES, g, law=law)
    # Each cell by the closed form of a straight line, its error by that of its residuals.
    at = np.log1p(TIMES / found.t_0)
    values = g if law == "logarithmic" else np.log(g)
    slopes, bases = np.polyfit(at, values.T, 1)
    known = slopes / bases if law == "logarithmic" else -slopes
    np.testing.assert_allclose(found.coefficient, known, rtol=1e-8)
    # 300 cells tell `t_0` to a few percent; the errors of cells are those of one line.
    np.testing.assert_allclose(found.t_0, T_0, rtol=0.05)
    pull = (found.coefficient - c) / found.error
    assert abs(pull.var() - 1) < 0.5
    assert abs(found.coefficient.mean() - mean) < Z * spread / np.sqrt(CELLS) + 1e-3
    model = found.model
    got = (
        model.deviation
        if law == "logarithmic"
        else model.exponent_deviation.coefficients[0]
    )
    assert abs(float(got) / spread - 1) < Z / np.sqrt(2 * CELLS) + 0.02
    assert abs(found.rms / READ - 1) < 0.1 and found.r2 > 0.99


@pytest.mark.parametrize("law", ["logarithmic", "power"])
def test_the_fitted_model_is_that_of_the_simulator(law):
    """Cells that the fitted model ages have the coefficients that were found."""
    g, _ = drawn(law, 0.04, 0.008)
    found = sj.devices.fit_retention(TIMES, g, law=law)
    start = jnp.full(CELLS, 1e-5)
    at = lambda t: sj.kernels.drift(found.model, start, t, key=jr.key(0))
    aged = np.asarray(jax.vmap(at, out_axes=1)(jnp.asarray(TIMES)))
    again = sj.devices.fit_retention(TIMES, aged, law=law, t_0=found.t_0)
    assert again.rms < 1e-9 and again.r2 > 1 - 1e-9
    np.testing.assert_allclose(again.start, 1e-5, rtol=1e-9)
    mean = found.coefficient.mean()
    assert abs(again.coefficient.mean() - mean) < Z * 0.008 / np.sqrt(CELLS)


def test_the_spread_leaves_out_the_noise_of_the_reads():
    g, _ = drawn("power", 0.05, 0.0)
    found = sj.devices.fit_retention(TIMES, g, law="power")
    # The variance of the estimates less their errors squared: zero, but for its scatter.
    error = float(np.mean(found.error))
    assert found.model.exponent_deviation.coefficients[0] < error * np.sqrt(
        Z * np.sqrt(2 / CELLS)
    )


def test_a_file_and_units_give_the_same(save):
    g, _ = drawn("power", 0.05, 0.01)
    few = g[:5]
    table = np.vstack([TIMES, few * 1e6]).T
    rows = [",".join(map(repr, row)) for row in table.tolist()]
    path = save("cells.csv", "\n".join(["seconds,a,b,c,d,e", *rows]))
    one = sj.devices.fit_retention(path, unit="uS", law="power", t_0=20.0)
    two = sj.devices.fit_retention(TIMES, few, law="power", t_0=20.0)
    np.testing.assert_allclose(one.coefficient, two.coefficient, rtol=1e-6)


GOOD, _ = drawn("power", 0.05, 0.01)
MIXED = np.where(np.arange(TIMES.size) > 9, GOOD * 1e-3, GOOD)


@pytest.mark.parametrize(
    "time, g, options, words",
    [
        (TIMES[:1], GOOD[:, :1], {}, "4 times"),
        (TIMES[:3], GOOD[:, :3], {}, "4 times"),
        (TIMES[:2], GOOD[:, :2], {"t_0": 1.0}, "3 times"),
        (TIMES, GOOD[:2], {}, "at least 3 cells"),
        (TIMES, GOOD[0], {}, "of shape"),
        (TIMES[::-1], GOOD, {}, "ascend"),
        (TIMES - 1, GOOD, {}, "ascend"),
        (TIMES, np.where(GOOD > 4e-5, np.nan, GOOD), {}, "`conductance` to be finite"),
        (TIMES, MIXED, {}, "one unit"),
        (TIMES, 1 / GOOD, {}, "pass 1 / R"),
        (TIMES, -GOOD, {}, "above 0"),
        (TIMES, GOOD[:, ::-1], {"law": "power", "t_0": 20.0}, "that fall"),
        (TIMES[12:], GOOD[:, 12:], {}, "that tell `t_0`"),
        (TIMES, GOOD, {"law": "cubic"}, "`law`"),
        (TIMES, GOOD, {"t_0": 0.0}, "`t_0`"),
        (TIMES, GOOD, {"unit": "kS"}, "`unit`"),
        (TIMES, None, {}, "`conductance` beside"),
        ("missing.csv", None, {}, "missing.csv"),
    ],
)
def test_what_cannot_be_identified_is_refused_in_one_line(time, g, options, words):
    with pytest.raises(ValueError, match=words) as refused:
        sj.devices.fit_retention(time, g, **options)
    assert "\n" not in str(refused.value)
