import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import PipelineSearch, SarSearch, TransitionSearch
from tolerances import var_atol

import sedma_jax as sj

LINES = 3


def values(top, seed=0, count=2000):
    v = np.random.default_rng(seed).uniform(-top - 3, top + 3, (LINES, count))
    return jnp.asarray(v)


def ideal(bits, kind):
    top = 2 ** (bits - 1) - 1
    if kind is SarSearch:
        weights = jnp.array(2.0 ** np.arange(bits - 2, -1, -1))
        return SarSearch(jnp.tile(weights, (LINES, 1)))
    if kind is PipelineSearch:
        one = jnp.ones((LINES, bits - 2))
        return PipelineSearch(one, one, jnp.zeros((LINES, bits - 2, 2)))
    return TransitionSearch(jnp.arange(-top, top, dtype=float)[None] + 0.5, lines=LINES)


@pytest.mark.parametrize("bits", [2, 6])
@pytest.mark.parametrize("kind", [SarSearch, PipelineSearch, TransitionSearch])
def test_ideal_components_round(kind, bits):
    top, search = 2 ** (bits - 1) - 1, ideal(bits, kind)
    v = values(top)
    assert search.bits == bits
    np.testing.assert_array_equal(search.find(v), np.clip(np.round(v), -top, top))


def test_a_heavy_capacitor_widens_the_code_before_it_takes_over():
    search = SarSearch(jnp.array([[4.3, 2.0, 1.0]]))
    v = jnp.linspace(0, 8, 8001)[None]
    codes = np.asarray(search.find(v))[0]
    width = [(codes == k).sum() / 1000 for k in range(1, 7)]
    np.testing.assert_allclose(width, [1, 1, 1.3, 1, 1, 1], atol=0.0021)
    np.testing.assert_array_equal(search.find(-v), -codes[None])


def test_later_stages_make_up_for_comparators_but_not_for_gains():
    bits, n = 7, 6
    top, v = 2**n - 1, values(2**n - 1, 1)
    rng = np.random.default_rng(2)
    one, rounded = jnp.ones((LINES, bits - 2)), np.clip(np.round(v), -top, top)
    offset = jnp.asarray(rng.uniform(-0.24, 0.24, (LINES, bits - 2, 2)))
    np.testing.assert_array_equal(PipelineSearch(one, one, offset).find(v), rounded)
    # All stages after the first are ideal: they round what it hands on.
    ratio = one.at[:, 0].set(1.04)
    seen = np.clip(v, -top, top)
    digit = np.sign(seen) * (np.abs(seen) > 2**n / 4)
    expected = np.clip(np.round(1.02 * seen - 0.04 * digit * 2 ** (n - 1)), -top, top)
    found = PipelineSearch(ratio, one, 0 * offset).find(v)
    np.testing.assert_array_equal(found, expected)
    assert (expected != rounded).mean() > 0.2


def test_lines_share_tables_in_groups():
    table = jnp.arange(-3.0, 3.0)[None] + jnp.array([[0.5], [0.9]])
    found = TransitionSearch(table, lines=2).find(jnp.full((3, 1), 1.7))
    np.testing.assert_array_equal(found[:, 0], [2, 2, 1])
    with pytest.raises(ValueError, match="to ascend"):
        TransitionSearch(table[:, ::-1])
    with pytest.raises(ValueError, match=r"2\*\*bits - 2"):
        TransitionSearch(table[:, :5])


def test_steps_spread_as_their_capacitors_do():
    bits, lines, mismatch = 8, 20_000, 0.01
    errors = sj.SarADC(mismatch, noise=0.1).draw(bits, lines, key=jr.key(0))
    weights = np.asarray(errors.search.weights, float)
    step = weights[:, 0] - weights[:, 1:].sum(1)
    expected = mismatch**2 * (2 ** (bits - 1) - 1)
    # Charge is shared by all capacitors, so a step of one has their error, `mismatch` / 11.
    assert abs(step.var() / expected - 1) < var_atol(1, lines) + 0.01
    # A converter is told by its number: fewer lines, or shared ones, are the same.
    few = sj.SarADC(mismatch, columns_per_adc=2).draw(bits, 4, key=jr.key(0))
    np.testing.assert_allclose(few.search.weights, weights[[0, 0, 1, 1]], rtol=1e-12)


def test_widths_of_codes_walk_between_the_ends():
    bits, lines, dnl = 7, 4000, 0.05
    errors = sj.ConverterSpread(dnl=dnl).draw(bits, lines, key=jr.key(1))
    walk = np.asarray(errors.search.transitions) - (np.arange(126) - 62.5)
    assert np.abs(walk[:, [0, -1]]).max() < 1e-5
    place = np.array([20, 62, 100])
    expected = dnl**2 * place * (125 - place) / 125
    assert (np.abs(walk[:, place].var(0) / expected - 1) < var_atol(1, lines)).all()


def test_a_ramp_is_common_and_comparators_are_not():
    spread = sj.RampADC(mismatch=0.05, slope=0.01, offset=0.3)
    errors = spread.draw(5, 200, key=jr.key(2))
    assert errors.search.transitions.shape == (1, 30)
    assert 0.2 < np.asarray(errors.offset).std() < 0.4
    assert jnp.any(errors.search.transitions != jnp.arange(-15.0, 15.0)[None] + 0.5)
