import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from jax.experimental import sparse as jax_sparse
from tolerances import gamma, mean_atol, var_atol

import sedma_jax as sj

ARRAY = (8, 8)
# No cell is further from its target than half a pulse of 2**16: the ideal limit.
IDEAL = sj.Device(g_min=0.0, g_max=1e-5, pulses_ltp=65536, pulses_ltd=65536)
SHAPES = [(1, 13), (13, 1), (8, 8), (17, 5), (5, 17)]


def random(shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def program(A, device=sj.devices.EPIRAM, **how):
    how = {"array": ARRAY, "key": jr.key(1)} | how
    return sj.program(A, device, **how)


@pytest.mark.parametrize("mapping", [sj.differential, sj.offset])
@pytest.mark.parametrize("scaling", [sj.global_scale, sj.tile_scale, sj.column_scale])
def test_a_fine_device_stores_the_matrix(mapping, scaling):
    A = random((17, 5))
    crossbar, _ = program(A, IDEAL, mapping=mapping, scaling=scaling)
    # Half a pulse a cell, two cells a weight, or one cell over twice the range.
    bound = 2 * 0.5 / 65536 * np.abs(A).max() * (1 + 1e-9)
    assert np.abs(np.asarray(sj.stored_matrix(crossbar)) - A).max() <= bound


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_product_is_that_of_the_stored_matrix(shape, dtype):
    A, x = random(shape, dtype=dtype), random((3, shape[1]), 1, dtype)
    crossbar, _ = program(A)
    y = sj.matvec(crossbar, x, key=jr.key(2))
    assert (y.shape, y.dtype) == ((3, shape[0]), dtype)
    stored = np.asarray(sj.stored_matrix(crossbar), np.float64)
    bound = gamma(shape[1] + 8, dtype) * (np.abs(x) @ np.abs(stored).T)
    exact = x.astype(np.float64) @ stored.T
    assert (np.abs(np.asarray(y) - exact) <= bound).all()
    one = sj.matvec(crossbar, x[0], key=jr.key(2))
    np.testing.assert_allclose(one, y[0], rtol=1e-5 if dtype == np.float32 else 1e-13)


def test_every_tile_is_the_same_however_tiles_are_batched():
    A = random((40, 24), dtype=np.float32)  # 15 tiles: a chunk of 16 is padded
    key = jr.key(3)
    whole, stats = program(A, key=key)
    one_chunk, _ = jax.jit(lambda A: program(A, key=key))(A)
    np.testing.assert_array_equal(whole.conductance, one_chunk.conductance)
    # A sparse matrix of one tile: its noise is that of the place in the grid.
    alone = np.zeros_like(A)
    alone[16:24, 8:16] = A[16:24, 8:16]
    single, single_stats = program(scipy.sparse.csr_array(alone), key=key)
    assert single.weights.shape == (1, 8, 8)
    index = 1 * 5 + 2
    np.testing.assert_array_equal(single.conductance[0], whole.conductance[index])
    assert single_stats.per_array.pulses[0] == stats.per_array.pulses[index]


def test_zero_tiles_are_not_programmed():
    blocks = [random((8, 8), seed) for seed in range(3)]
    A = scipy.sparse.csr_array(scipy.linalg.block_diag(*blocks))
    crossbar, stats = program(A)
    assert crossbar.weights.shape == (3, 8, 8)
    dense, dense_stats = program(A.toarray())
    assert dense.weights.shape == (9, 8, 8)
    assert float(stats.pulses) == float(dense_stats.pulses)
    x = random(24)
    key = jr.key(4)
    np.testing.assert_allclose(
        sj.matvec(crossbar, x, key=key), sj.matvec(dense, x, key=key), atol=1e-13
    )
    other, _ = program(jax_sparse.BCOO.fromdense(jnp.asarray(A.toarray())))
    np.testing.assert_array_equal(other.conductance, crossbar.conductance)


def test_a_matrix_of_zeros_takes_no_array():
    crossbar, stats = program(scipy.sparse.csr_array((9, 20)))
    assert crossbar.weights.shape[0] == 0
    assert float(stats.pulses) == 0
    assert not sj.matvec(crossbar, jnp.ones(20), key=jr.key(0)).any()


def test_read_noise_has_its_law():
    count = 20_000
    for mapping, cells in ((sj.differential, 2), (sj.offset, 4)):
        device = dataclasses.replace(IDEAL, sigma_read=0.01)
        # Programmed without noise, read with it.
        crossbar, _ = program(
            random((8, 16)), IDEAL, mapping=mapping, scaling=sj.tile_scale
        )
        noisy = dataclasses.replace(crossbar, device=device)
        x = np.linspace(-1, 1, 16)
        clean = sj.matvec(crossbar, x, key=jr.key(5))
        batch = np.broadcast_to(x, (count, 16))
        error = np.asarray(sj.matvec(noisy, batch, key=jr.key(6)) - clean[None])
        scale = np.asarray(crossbar.scale[:, 0])
        parts = (x.reshape(2, 8) ** 2).sum(1)
        std = 0.01 * np.sqrt(cells * (parts * scale**2).sum())
        assert np.abs(error.mean(0)).max() < mean_atol(std, count)
        assert np.abs(error.var(0) - std**2).max() < var_atol(std, count)


def test_device_spread_is_drawn_once_an_array():
    device = dataclasses.replace(
        sj.devices.EPIRAM, sigma_d2d=0.5, sigma_c2c=0.0, r_access=0.0
    )
    A = np.ones((8, 8))
    one_round = sj.acceptance_band(device, max_pulses=64, iterations=1)
    how = dict(rule=one_round, key=jr.key(7))
    spread, _ = program(A, device, **how)
    again, _ = program(A, device, **how)
    np.testing.assert_array_equal(spread.conductance, again.conductance)
    # 64 of 256 pulses along a curve of its own: cells differ, and only these do.
    cells = np.asarray(spread.conductance[0, 0])
    assert np.unique(cells).size > 60
    assert np.unique(np.asarray(spread.conductance[0, 1])).size == 1


def test_fewer_arrays_take_more_passes():
    A = random((8, 40))
    _, free = program(A)
    _, two = program(A, arrays=2)
    latency = np.asarray(free.per_array.write_latency + free.per_array.verify_latency)
    assert (free.passes, two.passes) == (1, 3)
    assert float(free.latency) == latency.max()
    expected = latency[:2].max() + latency[2:4].max() + latency[4]
    np.testing.assert_allclose(two.latency, expected, rtol=1e-14)
    assert float(two.energy) == float(free.energy)


def test_converters_compose():
    A, x = random((8, 16)), random((4, 16), 1)
    crossbar, _ = program(A)
    stored = np.asarray(sj.stored_matrix(crossbar))
    drive = np.abs(x).max(1, keepdims=True)
    levels = np.round(x / drive * 7) / 7  # a 4-bit DAC with sign
    y = sj.matvec(crossbar, x, dac=sj.DAC(4), key=jr.key(8))
    np.testing.assert_allclose(y, levels * drive @ stored.T, rtol=1e-12, atol=1e-12)
    # One tile a half of the input, each with an ADC before the sum.
    weights, scale = np.asarray(crossbar.weights), np.asarray(crossbar.scale)
    lsb = 2.0 / 31
    total = 0
    for t in range(2):
        current = (x / drive)[:, 8 * t : 8 * t + 8] @ weights[t]
        total += np.clip(np.round(current / lsb), -31, 31) * lsb * scale[t]
    y = sj.matvec(crossbar, x, adc=sj.ADC(6, 2.0), key=jr.key(8))
    np.testing.assert_allclose(y, total * drive, rtol=1e-12, atol=1e-12)


@pytest.mark.slow  # bits
def test_vmap_over_keys_is_a_loop_over_keys():
    A = random((5, 6), dtype=np.float32)
    keys = jr.split(jr.key(9), 3)
    together = jax.vmap(lambda k: program(A, key=k)[0].conductance)(keys)
    for i in range(3):
        np.testing.assert_array_equal(together[i], program(A, key=keys[i])[0].conductance)


def test_gradients():
    A, x, weight = random((5, 9)), random(9, 1), random(5, 2)
    crossbar, _ = program(A)
    loss = lambda x: weight @ sj.matvec(crossbar, x, key=jr.key(0))
    expected = weight @ np.asarray(sj.stored_matrix(crossbar))
    np.testing.assert_allclose(jax.grad(loss)(x), expected, rtol=1e-10)

    def through(A):
        crossbar, _ = program(A)
        return weight @ sj.matvec(crossbar, x, key=jr.key(0))

    # Straight through: as if the error of programming were a constant.
    np.testing.assert_allclose(
        jax.grad(through)(jnp.asarray(A)), np.outer(weight, x), rtol=1e-10, atol=1e-12
    )


def test_a_crossbar_is_a_pytree_that_saves_and_loads(tmp_path):
    import equinox as eqx

    crossbar, _ = program(random((5, 9)))
    eqx.tree_serialise_leaves(tmp_path / "crossbar.eqx", crossbar)
    empty = jax.tree.map(jnp.zeros_like, crossbar)
    loaded = eqx.tree_deserialise_leaves(tmp_path / "crossbar.eqx", empty)
    x = random(9)
    np.testing.assert_array_equal(
        sj.matvec(loaded, x, key=jr.key(0)), sj.matvec(crossbar, x, key=jr.key(0))
    )


@pytest.mark.parametrize("adc", [None, sj.ADC(6)])
def test_lines_that_a_small_matrix_leaves_unused_take_no_part(adc):
    A, x = random((3, 5), dtype=np.float32), random((6, 5), 1, np.float32)
    # Noise as large as the currents: that of an unused line would widen the ADC's range.
    device = dataclasses.replace(IDEAL, sigma_read=1.0)

    def read(array):
        crossbar = sj.program_exactly(A, device, array=array)
        if adc is None:  # these currents are larger than the noise
            noise = sj.noise_models.CMO_HFOX_READ
            crossbar = sj.with_read_noise(crossbar, noise, 1e3)
            current = sj.noise_models.MILO_2021_CURRENT
            crossbar = sj.with_nonlinear_current(crossbar, current)
        return sj.matvec(crossbar, x, adc=adc, key=jr.key(4))

    np.testing.assert_allclose(read((64, 32)), read((5, 3)), rtol=1e-5)
