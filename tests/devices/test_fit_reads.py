"""Reads that are simulated give back the model that made them; measured ones are judged."""

import os
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import (
    DriftInTurn,
    LogarithmicRelaxation,
    TelegraphNoise,
)
from tolerances import Z

import sedma_jax as sj
from sedma_jax.devices import ReadFit, fit_reads, simulate_reads

CELLS, READS = 128, 400
TRUE = ReadFit(
    DriftInTurn(
        (
            LogarithmicRelaxation(0.01, 0.005, 2.0),
            TelegraphNoise(0.8, 0.1, 12.0, 8.0, 0.3, 0.3),
        )
    ),
    0.005,
    0.2,
    0,
)


@pytest.fixture(scope="module")
def traces():
    g = jnp.full(CELLS, 2e-5)
    return np.asarray(simulate_reads(TRUE, g, READS, key=jr.key(7)))


@pytest.fixture(scope="module")
def found(traces):
    return fit_reads(traces, traps=1)


def test_the_model_is_recovered(found):
    relaxation, trap = found.drift.models
    # Binomial share; medians of n log-normals have the error 1.2533 spread / sqrt(n).
    few = 0.8 * CELLS
    assert abs(trap.share - 0.8) < Z * np.sqrt(0.16 / CELLS)
    median = lambda spread, n: Z * 1.2533 * spread / np.sqrt(n)
    assert abs(np.log(trap.amplitude / 0.1)) < median(0.3, few)
    # About 20 dwell times of each kind per cell add 1/sqrt(20) to the spread.
    dwell = np.hypot(0.3, 1 / np.sqrt(20))
    assert abs(np.log(trap.tau_0 / 12.0)) < median(dwell, few)
    assert abs(np.log(trap.tau_1 / 8.0)) < median(dwell, few)
    assert abs(np.log(found.white / 0.005)) < median(np.hypot(0.2, 0.1), CELLS)
    # The mean of c is found from the mean trace: spread of c and of the traps of a cell.
    assert abs(relaxation.mean - 0.01) < 0.005


def test_the_time_step_scales_the_times_alone(found, traces):
    one, ten = found, fit_reads(traces, 10.0, traps=1)
    slow, quick = ten.drift.models[1], one.drift.models[1]
    np.testing.assert_allclose(slow.tau_0, 10 * quick.tau_0)
    np.testing.assert_allclose(slow.amplitude, quick.amplitude)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda g: g[:4], "8 cells"),
        (lambda g: g[:, :20], "32 reads"),
        (lambda g: np.where(g > 1.99e-5, np.nan, g), "above 0"),
        (lambda g: 1 / g, "pass 1 / R"),
        (lambda g: np.full_like(g, 1e-5), "constant"),
        (
            lambda g: 1e-5 * (1 + 1e-3 * np.random.default_rng(0).normal(size=g.shape)),
            "jump twice",
        ),
    ],
)
def test_what_cannot_be_identified_is_refused(traces, change, words):
    with pytest.raises(ValueError, match=words) as refused:
        fit_reads(change(traces))
    assert "\n" not in str(refused.value)


def _measured():
    places = [os.environ.get("SEDMA_DATA"), Path(__file__).parents[3] / "shared/data"]
    name = "measured/rram_1t4r_reads_after_set.tsv"
    return next((Path(p) / name for p in places if p and (Path(p) / name).exists()), None)


@pytest.mark.skipif(_measured() is None, reason="needs the measured reads (SEDMA_DATA)")
def test_cells_that_the_fit_did_not_see_are_like_simulated_ones():
    g = 1 / np.loadtxt(_measured())[:, 3:]
    held = g[1::2]
    found = sj.devices.fit_reads(g[::2])
    simulated = np.concatenate(
        [
            np.asarray(
                simulate_reads(found, jnp.asarray(held[:, 0]), held.shape[1], key=jr.key(n))
            )
            for n in range(4)
        ]
    )
    spread = lambda g: np.median((g / np.median(g, axis=1, keepdims=True)).std(axis=1))
    # The logarithm of the spread of a cell has a deviation of about 0.8 over the cells.
    bound = Z * 1.2533 * 0.8 * np.sqrt(1 / len(held) + 1 / len(simulated))
    assert abs(np.log(spread(simulated) / spread(held))) < bound
