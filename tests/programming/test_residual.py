import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.sparse
from tolerances import gamma, mean_atol, var_atol

import sedma_jax as sj
from sedma_jax._cli.main import main

A = np.random.default_rng(0).normal(size=(7, 9))
FINE = sj.Device(g_min=0.0, g_max=1e-5, pulses_ltp=10**6, pulses_ltd=10**6)


def unit(tiles):
    return jnp.ones_like(tiles[:, 0])


def program(A, device=sj.devices.TAOX_HFOX, slices=3, **how):
    how = {"array": (4, 4), "key": jr.key(1)} | how
    return sj.program_residual(A, device, slices=slices, **how)


@pytest.mark.parametrize("name", sj.devices.PRESETS)
def test_each_slice_leaves_the_band_of_the_one_before(name):
    device = sj.devices.PRESETS[name]
    rule = sj.acceptance_band(device, iterations=5000)
    # Both cells of a pair lie within the band, in units of the largest weight of a bit
    # line of a tile; what is left there is the next scale.
    fraction = 2 * float(rule.band)
    errors = []
    for slices in (1, 2, 3):
        crossbar, stats = program(A, device, slices, rule=rule)
        assert int(jnp.sum(stats.per_array.unfinished)) == 0
        missed = np.asarray(sj.stored_matrix(crossbar)) - A
        for k in range(0, 9, 4):
            largest = np.abs(A[:, k : k + 4]).max(axis=1)
            bound = fraction**slices * largest * (1 + 1e-6)
            assert np.all(np.abs(missed[:, k : k + 4]).max(axis=1) <= bound)
        errors.append(np.linalg.norm(missed))
    assert errors[1] <= 0.5 * errors[0] and errors[2] <= 0.5 * errors[1]


def test_figures_add_up():
    device = sj.devices.TAOX_HFOX
    crossbar, stats = program(A)
    one, alone = sj.program(A, device, array=(4, 4), key=jr.key(1))
    assert crossbar.slices == 3 and len(crossbar.weights) == 3 * 6
    np.testing.assert_array_equal(crossbar.weights[:6], one.weights)
    first = stats.slices[0].per_array
    np.testing.assert_array_equal(first.pulses, alone.per_array.pulses)
    np.testing.assert_array_equal(first.write_energy, alone.per_array.write_energy)
    # Reading back: each row of a tile once, each cell that holds an entry at 0.5 V.
    grown = first.verify_latency - alone.per_array.verify_latency
    np.testing.assert_allclose(grown, np.array([4, 4, 4, 4, 1, 1]) * 5e-9, rtol=1e-9)
    current = device.v_read / (1 / np.asarray(one.conductance) + device.r_access)
    current[1::2, :, :, 3:] = 0  # 7 = 4 + 3 outputs
    current[4:, :, 1:] = 0  # 9 = 4 + 4 + 1 inputs
    grown = np.asarray(first.verify_energy - alone.per_array.verify_energy)
    np.testing.assert_allclose(grown, 0.5 * 5e-9 * current.sum(axis=(1, 2, 3)), rtol=1e-6)
    for name in ("pulses", "energy", "latency", "write_energy", "write_latency", "passes"):
        parts = [float(getattr(part, name)) for part in stats.slices]
        assert float(getattr(stats, name)) == pytest.approx(sum(parts), rel=1e-12)
    assert int(jnp.sum(stats.per_array.pulses)) == int(stats.pulses)
    single, taken = program(A, slices=1)
    np.testing.assert_array_equal(single.weights, one.weights)
    assert single.slices == 1 and taken.slices == ()
    assert float(taken.energy) == float(alone.energy)


def test_products_of_slices_add_up():
    crossbar, _ = program(A)
    x = np.random.default_rng(1).normal(size=(2, 9))
    stored = np.asarray(sj.stored_matrix(crossbar))
    y = sj.matvec(crossbar, x, key=jr.key(2))
    bound = gamma(9 * 3 + 8, np.float64) * (np.abs(x) @ np.abs(A.T) * 3)
    assert np.all(np.abs(y - x @ stored.T) <= bound)
    _, info = sj.corrected_matvec(
        A, x, sj.devices.TAOX_HFOX, array=(4, 4), programmed=program(A), key=jr.key(3)
    )
    assert np.all(info.relative_l2_raw < 1e-4)
    assert np.all(info.relative_l2_corrected < info.relative_l2_raw)


def test_slices_have_read_noise_of_their_own():
    sigma, count = 0.01, 4000
    crossbar, _ = program(A / 5, slices=2, scaling=unit, scheme=sj.open_loop)
    crossbar = dataclasses.replace(
        crossbar, device=dataclasses.replace(crossbar.device, sigma_read=sigma)
    )
    x = np.ones((count, 9))
    y = np.asarray(sj.matvec(crossbar, x, key=jr.key(4)))
    # Two cells a weight, nine weights a sum, and two slices, all on the same scale.
    std = sigma * np.sqrt(2 * 9 * 2)
    noise = y - (x @ np.asarray(sj.stored_matrix(crossbar)).T)
    assert abs(noise.mean()) < mean_atol(std, noise.size)
    assert abs(noise.var() - std**2) < var_atol(std, noise.size)


@pytest.mark.parametrize("reads", [1, 4])
def test_noise_of_reading_back_stays(reads):
    sigma = 0.01
    device = dataclasses.replace(FINE, sigma_read=sigma)
    A = np.random.default_rng(5).uniform(-1, 1, (80, 80))
    crossbar, _ = program(
        A, device, 2, scaling=unit, scheme=sj.open_loop, reads=reads, array=(80, 80)
    )
    # Open loop on a silent device stores all it is told to, to half a pulse a cell.
    missed = np.asarray(sj.stored_matrix(crossbar)) - A
    std = sigma * np.sqrt(2 / reads)
    assert abs(missed.mean()) < mean_atol(std, missed.size) + 2e-6
    assert abs(missed.var() - std**2) < var_atol(std, missed.size) + 4e-6 * std


def test_sparse_tiles_get_slices_only_where_there_is_a_nonzero():
    B = A.copy()
    B[:4, :4] = B[4:, 4:8] = 0
    dense, _ = program(B)
    sparse, stats = program(scipy.sparse.csr_array(B))
    assert len(sparse.weights) == 3 * 4 and len(dense.weights) == 3 * 6
    assert len(stats.per_array.pulses) == 3 * 4
    np.testing.assert_array_equal(sj.stored_matrix(sparse), sj.stored_matrix(dense))


def test_jit_and_gradient():
    x = np.random.default_rng(6).normal(size=9)

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def product(A):
        crossbar, stats = program(A)
        return jnp.sum(sj.matvec(crossbar, x, key=jr.key(7))), stats.pulses

    (value, pulses), slope = product(jnp.asarray(A))
    crossbar, stats = program(A)
    expected = jnp.sum(sj.matvec(crossbar, x, key=jr.key(7)))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert float(pulses) == float(stats.pulses)
    np.testing.assert_allclose(slope, np.broadcast_to(x, A.shape), rtol=1e-12)


@pytest.mark.parametrize("name", ["slices", "reads"])
def test_less_than_one_is_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` from 1"):
        program(A, **{name: 0})


def test_command_line(tmp_path, capsys):
    np.save(tmp_path / "A.npy", A)
    errors = []
    for extra in ([], ["--slices", "2"]):
        usual = ["run", str(tmp_path / "A.npy"), "--array", "4x4", "--float64", "--json"]
        assert main([*usual, *extra]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result.get("slices") == (2 if extra else None)
        assert result["partitions"] == 6
        errors.append((result["relative_l2_raw"], result["relative_l2_corrected"]))
    assert all(b < 0.5 * a for a, b in zip(*errors, strict=True))
    assert main([*usual, "--slices", "0"]) == 2
    assert "slices >= 1" in capsys.readouterr().err
