"""`vmap` over what a study varies gives the numbers of a loop, in one compilation."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj
from sedma_jax.noise_models import PCM

A = np.random.default_rng(0).standard_normal((11, 7)).astype(np.float32)
X = np.random.default_rng(1).standard_normal((3, 7)).astype(np.float32)
DEVICE = dataclasses.replace(sj.devices.EPIRAM, sigma_read=0.01)
HOW = sj.Programming(array=(4, 4), scheme=sj.open_loop)


@pytest.fixture(scope="module")
def crossbar():
    return sj.program(A, DEVICE, HOW, key=jr.key(0))[0]


def bits(crossbar, number):
    converters = dict(dac=sj.DAC(number), adc=sj.ADC(number, 2.0))
    return sj.matvec(crossbar, X, **converters, key=jr.key(1))


def ranging_bits(crossbar, number):
    return sj.matvec(crossbar, X, adc=sj.ADC(number), key=jr.key(1))


def read_noise(crossbar, sigma):
    device = dataclasses.replace(crossbar.device, sigma_read=sigma)
    return sj.matvec(dataclasses.replace(crossbar, device=device), X, key=jr.key(1))


def programming_noise(crossbar, sigma):
    device = dataclasses.replace(DEVICE, sigma_c2c=sigma)
    return sj.matvec(sj.program(A, device, HOW, key=jr.key(0))[0], X, key=jr.key(1))


def resistance(crossbar, ohm):
    return sj.matvec(sj.with_line_resistance(crossbar, ohm, ohm), X, key=jr.key(1))


def seconds(crossbar, time):
    older = sj.age(crossbar, PCM.drift, time, key=jr.key(2))
    return sj.matvec(older, X, key=jr.key(1))


STUDIES = {
    bits: jnp.arange(3, 8),
    ranging_bits: jnp.arange(3, 8),
    read_noise: jnp.array([0.0, 0.01, 0.1], jnp.float32),
    programming_noise: jnp.array([0.0, 0.01, 0.1], jnp.float32),
    resistance: jnp.array([0.5, 1.0, 5.0], jnp.float32),
    seconds: jnp.array([1.0, 3600.0, 3e7], jnp.float32),
}


@pytest.mark.parametrize("study", STUDIES, ids=lambda s: s.__name__)
def test_a_mapped_study_is_the_loop(crossbar, study):
    values = STUDIES[study]
    mapped = jax.jit(jax.vmap(lambda value: study(crossbar, value)))
    looped = [study(crossbar, value.item()) for value in values]
    np.testing.assert_allclose(mapped(values), np.stack(looped), rtol=2e-5, atol=2e-5)
    assert mapped._cache_size() == 1
    # Each value counts: no two settings give the same product.
    assert len({np.asarray(y).tobytes() for y in looped}) == len(values)


def test_seeds_are_mapped(crossbar):
    keys = jr.split(jr.key(5), 3)

    def product(key):
        return sj.matvec(sj.program(A, DEVICE, HOW, key=key)[0], X, key=key)

    np.testing.assert_allclose(
        jax.vmap(product)(keys), [product(key) for key in keys], rtol=2e-5, atol=2e-5
    )
    read = lambda key: sj.matvec(crossbar, X, key=key)
    np.testing.assert_allclose(
        jax.vmap(read)(keys), [read(key) for key in keys], rtol=2e-5, atol=2e-5
    )


def test_resolutions_share_a_program(crossbar):
    from sedma_jax._crossbar import crossbar as reading

    bits(crossbar, 5)
    before = reading.read.plain._cache_size() + reading.read.wide._cache_size()
    for number in (3, 8, 11):
        bits(crossbar, number)
    assert reading.read.plain._cache_size() + reading.read.wide._cache_size() == before
