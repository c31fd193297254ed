"""No random key is used twice, as JAX's own checker sees it."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj

pytestmark = pytest.mark.slow  # each scheme is compiled anew under the checker

A = jnp.asarray(np.random.default_rng(0).standard_normal((20, 12)), jnp.float32)
X = jnp.ones((2, 12), jnp.float32)
NOISY = dataclasses.replace(sj.devices.AG_ASI, sigma_read=0.01)
SCHEMES = (
    sj.write_and_verify,
    sj.open_loop,
    sj.hadamard_verify,
    sj.gradient_programming,
    sj.rewrite_and_verify,
    sj.sampled_rewrite,
)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.__name__)
def test_programming_and_reading(scheme):
    with jax.debug_key_reuse(True):
        matrix_key, read_key = jr.split(jr.key(0))
        crossbar, _ = sj.program(A, NOISY, array=(8, 8), scheme=scheme, key=matrix_key)
        sj.matvec(crossbar, X, adc=sj.ADC(6), key=read_key)


def test_corrected_products():
    with jax.debug_key_reuse(True):
        sj.corrected_matvec(A, X, NOISY, array=(8, 8), key=jr.key(0))
        sj.corrected_matvec(A, X, NOISY, array=(8, 8), analog_matrix=True, key=jr.key(0))


def test_the_checker_sees_a_key_that_is_used_twice():
    with jax.debug_key_reuse(True):
        key = jr.key(0)
        jr.normal(key)
        with pytest.raises(jax.errors.KeyReuseError):
            jr.normal(key)
