"""Windows that float32 cannot resolve are refused; the narrowest others give A x."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj

RNG = np.random.default_rng(0)
A, X = RNG.normal(size=(6, 5)), RNG.normal(size=5)


def device(low, high):
    return dataclasses.replace(
        sj.devices.EPIRAM, g_min=low, g_max=high, r_access=0.0, sigma_read=0.0
    )


@pytest.mark.parametrize(
    "window", [(1e-6, 1.00000001e-6), (1e-6, 1.00001e-6), (0.0, 1e-40), (0.0, 1e-33)]
)
def test_a_window_that_collapses_is_refused(window):
    with pytest.raises(ValueError, match="float32"):
        device(*window)


@pytest.mark.parametrize("window", [(1e-6, 1.00004e-6), (0.0, 1e-28)])
def test_the_narrowest_and_smallest_windows_hold_a_matrix(window):
    with jax.enable_x64(False):
        crossbar = sj.program_exactly(A, device(*window), array=(8, 8))
        y = np.asarray(sj.matvec(crossbar, X, key=jr.key(0)), float)
    # Each state is rounded to half a step of 1/256 at most, and both ends too.
    bound = 2 / 256 * np.abs(A).max() * np.sum(np.abs(X))
    assert np.all(np.abs(y - A @ X) <= bound)


def test_a_window_given_by_an_array_is_checked_too():
    with pytest.raises(ValueError, match="so far apart"):
        device(jnp.asarray(1e-5), jnp.asarray(1e-5 * (1 + 1e-6)))


def test_ranges_beyond_the_default_dtype_are_refused():
    with jax.enable_x64(False), pytest.raises(ValueError, match="full_scale"):
        sj.ADC(8, full_scale=1e300)
