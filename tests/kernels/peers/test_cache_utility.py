import jax.numpy as jnp
import numpy as np
from tolerances import gamma

from sedma_jax import kernels

RNG = np.random.default_rng(2)


def test_utility_is_equation_10():
    frequency, idle, size = RNG.exponential([[2.0], [3600.0], [5.0]], (3, 40)) + 0.01
    utility = kernels.cache_utility(
        jnp.asarray(frequency), jnp.asarray(idle), jnp.asarray(size), 1800.0
    )
    expected = frequency * 0.5 ** (idle / 1800) / size
    np.testing.assert_allclose(utility, expected, rtol=gamma(256, float))


def test_the_lowest_utility_is_evicted_until_the_rest_fits():
    for _ in range(20):
        utility, size = RNG.uniform(0.1, 1, (2, 30))
        kept = list(np.argsort(utility)[::-1])
        while sum(size[kept]) > 7:
            kept.pop()  # one at a time, the least useful
        mask = kernels.worth_keeping(jnp.asarray(utility), jnp.asarray(size), 7.0)
        assert set(np.flatnonzero(mask)) == set(kept)


def test_of_equals_the_earlier_entry_stays():
    keep = kernels.worth_keeping(jnp.ones(4), jnp.ones(4), 2.0)
    assert keep.tolist() == [True, True, False, False]
