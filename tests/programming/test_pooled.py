import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.sparse
from tolerances import gamma, var_atol

import sedma_jax as sj
from sedma_jax._programming import chunks

# Two materials, three sizes, and more partitions than arrays.
POOL = sj.Pool(
    [
        sj.ArrayKind(5, 4, 2, sj.devices.EPIRAM),
        sj.ArrayKind(3, 3, 2, sj.devices.TAOX_HFOX),
        sj.ArrayKind(2, 4, 2, sj.devices.EPIRAM),
    ]
)
SHAPE = (9, 13)
# Of the fewest passes, in which arrays of every kind take part.
PLAN = sj.candidate_plans(SHAPE, POOL)[0]
KEY = jr.key(3)
read = jax.jit(lambda crossbar, x: sj.matvec(crossbar, x, key=jr.key(4)))


def replaced(pool, **figures):
    kinds = [
        sj.ArrayKind(
            kind.rows, kind.cols, kind.count, dataclasses.replace(kind.device, **figures)
        )
        for kind in pool.kinds
    ]
    return sj.Pool(kinds)


def planned(pool):
    """`PLAN` for other devices."""
    return dataclasses.replace(PLAN, pool=pool)


# Pulses that lead exactly to every multiple of a twelfth.
EXACT = replaced(
    POOL,
    pulses_ltp=120,
    pulses_ltd=120,
    nonlinearity_ltp=0.0,
    nonlinearity_ltd=0.0,
    sigma_c2c=0.0,
    r_access=0.0,
)


@pytest.fixture(scope="module")
def matrix():
    return np.random.default_rng(0).normal(size=SHAPE)


@pytest.fixture(scope="module")
def programmed(matrix):
    return sj.program_pool(matrix, PLAN, key=KEY)


def test_the_plan_of_these_tests_is_mixed():
    assert min(PLAN.counts) > 0
    assert PLAN.passes > 1


def test_product_is_exact_on_quiet_devices():
    rng = np.random.default_rng(1)
    A = rng.integers(-4, 5, SHAPE).astype(float)
    x = rng.normal(size=(2, SHAPE[1]))
    crossbar, stats = sj.program_pool(A, planned(EXACT), key=KEY)
    assert int(stats.per_array.unfinished.sum()) == 0
    bound = gamma(100, float) * np.abs(x) @ np.abs(A).T
    # A cell is moved by logarithms and exponentials with a slope of about one.
    assert (np.abs(sj.stored_matrix(crossbar) - A) <= 16 * np.finfo(float).eps * 4).all()
    assert (np.abs(read(crossbar, x) - x @ A.T) <= bound).all()


def test_product_is_within_the_bands_of_the_cells(matrix, programmed):
    crossbar, stats = programmed
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, SHAPE[1])))
    assert int(stats.per_array.unfinished.sum()) == 0
    bands = [float(sj.acceptance_band(k.device).band) for k in POOL.kinds]
    # Two cells a weight, each within its band of the largest entry on its bit line.
    bound = 2 * max(bands) * np.abs(matrix).max()
    error = np.abs(sj.stored_matrix(crossbar) - matrix)
    assert 0 < error.max() <= bound
    exact = x @ matrix.T
    assert (np.abs(read(crossbar, x) - exact) <= bound * np.abs(x).sum(1)[:, None]).all()
    y, _ = sj.corrected_matvec(
        matrix, x, POOL.kinds[0].device, array=(5, 4), programmed=programmed, key=KEY
    )
    raw = np.linalg.norm(read(crossbar, x) - exact)
    assert np.linalg.norm(y - exact) < raw / 5  # a product of two errors of 1 %


def test_each_partition_is_scaled_and_stored_in_its_place(matrix, programmed):
    crossbar, _ = programmed
    stored = np.asarray(sj.stored_matrix(crossbar))
    seen = np.zeros(len(PLAN.pool.kinds), int)
    for r in PLAN.rectangles:
        bank = crossbar.banks[r.kind].crossbar
        tile = np.asarray(bank.weights * bank.scale[:, None])[seen[r.kind]]
        part = tile[: r.right - r.left, : r.bottom - r.top].T
        np.testing.assert_array_equal(part, stored[r.top : r.bottom, r.left : r.right])
        assert np.count_nonzero(tile) == np.count_nonzero(part)
        seen[r.kind] += 1


def test_passes_add_the_slowest_array_of_each():
    # Ones take all 120 pulses in every cell, rows one after another; nothing else does.
    widths = (1e-6, 7e-6, 3e-6)
    kinds = [
        sj.ArrayKind(
            k.rows, k.cols, k.count, dataclasses.replace(k.device, t_ltp=t, t_read=0.0)
        )
        for k, t in zip(EXACT.kinds, widths, strict=True)
    ]
    _, stats = sj.program_pool(np.ones(SHAPE), planned(sj.Pool(kinds)), key=KEY)
    seconds = [120 * widths[r.kind] * (r.right - r.left) for r in PLAN.rectangles]
    np.testing.assert_allclose(stats.per_array.write_latency, seconds, rtol=1e-12)
    slowest = [
        max(s for s, r in zip(seconds, PLAN.rectangles, strict=True) if r.pass_number == p)
        for p in range(PLAN.passes)
    ]
    np.testing.assert_allclose(stats.latency, sum(slowest), rtol=1e-12)
    assert stats.passes == PLAN.passes
    assert int(stats.pulses) == 120 * np.prod(SHAPE)
    np.testing.assert_allclose(
        stats.energy,
        sum(stats.per_array.write_energy) + sum(stats.per_array.verify_energy),
        rtol=1e-12,
    )


@pytest.mark.slow  # bits
def test_same_key_same_numbers_whatever_the_grouping(matrix, programmed, monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNKS", (1,))
    done = []
    again = sj.program_pool(
        matrix, PLAN, progress=lambda *counts: done.append(counts), key=KEY
    )
    assert [n for n, _ in done] == list(range(1, len(PLAN.rectangles) + 1))
    jax.tree.map(np.testing.assert_array_equal, again, programmed)


def test_partitions_have_noise_of_their_own():
    equal = sj.Pool([sj.ArrayKind(5, 4, 2, sj.devices.EPIRAM)])
    A = np.full((8, 10), 0.5)
    A[:, ::5] = 1  # the full scale of every bit line
    crossbar, _ = sj.program_pool(A, equal, key=KEY)
    tiles = np.asarray(crossbar.banks[0].crossbar.weights)
    assert len(np.unique(tiles[:, 1, 0])) == len(tiles) == 4
    noisy = replaced(POOL, sigma_read=0.01)
    crossbar, _ = sj.program_pool(np.zeros(SHAPE), noisy, key=KEY)
    noise = np.asarray(read(crossbar, np.ones((2, SHAPE[1]))))
    assert len(np.unique(noise)) == noise.size


def test_only_lines_in_use_add_read_noise():
    batch, sigma = 2000, 0.01
    crossbar, _ = sj.program_pool(np.zeros(SHAPE), planned(EXACT), key=KEY)
    noisy = lambda bank: dataclasses.replace(bank.crossbar.device, sigma_read=sigma)
    crossbar = eqx.tree_at(
        lambda c: [bank.crossbar.device for bank in c.banks],
        crossbar,
        [noisy(bank) for bank in crossbar.banks],
    )
    noise = np.asarray(read(crossbar, jnp.ones((batch, SHAPE[1]))))
    # Two cells for each of the n inputs of a row, on whatever arrays they lie.
    variance = 2 * SHAPE[1] * sigma**2
    bound = var_atol(np.sqrt(variance), batch)
    assert (np.abs(noise.var(axis=0, ddof=1) - variance) < bound).all()


def test_sparse_matrices_store_what_holds_a_nonzero():
    A = np.zeros(SHAPE)
    A[0, 0], A[8, 12], A[4, :3] = 1.0, -2.0, [1.0, 2.0, 3.0]
    x = jnp.asarray(np.random.default_rng(5).normal(size=(2, SHAPE[1])))
    crossbar, stats = sj.program_pool(scipy.sparse.csr_array(A), EXACT, key=KEY)
    assert len(stats.per_array.pulses) < len(PLAN.rectangles)
    bound = gamma(100, float) * np.abs(x) @ np.abs(A).T
    assert (np.abs(sj.matvec(crossbar, x, key=KEY) - x @ A.T) <= bound).all()
    nothing, stats = sj.program_pool(scipy.sparse.csr_array(0 * A), EXACT, key=KEY)
    assert (stats.passes, float(stats.latency), float(stats.energy)) == (0, 0, 0)
    assert not sj.matvec(nothing, x, key=KEY).any()


def test_gradients_pass_straight_through(matrix):
    x, g = jnp.ones(SHAPE[1]), np.random.default_rng(6).normal(size=SHAPE[0])

    plan = sj.plan_partitions(SHAPE, sj.Pool(POOL.kinds[:1]))

    @jax.jit
    def loss(A):
        crossbar, _ = sj.program_pool(A, plan, key=KEY)
        return g @ sj.matvec(crossbar, x, key=KEY)

    slope = jax.grad(loss)(jnp.asarray(matrix))
    np.testing.assert_allclose(slope, np.outer(g, x), rtol=gamma(100, float))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sj.program_pool(np.ones((3, 3)), PLAN, key=KEY), "plan for the shape"),
        (
            lambda: sj.program_pool(np.ones(SHAPE), POOL, key=jr.PRNGKey(0)),
            "typed key",
        ),
        (
            lambda: sj.program_pool(
                np.ones(SHAPE),
                sj.plan_partitions(SHAPE, POOL, occupied=(np.array([0]), np.array([0]))),
                key=KEY,
            ),
            "covers a dense",
        ),
        (
            lambda: sj.program_pool(
                scipy.sparse.csr_array(np.ones(SHAPE)),
                sj.plan_partitions(SHAPE, POOL, occupied=(np.array([0]), np.array([0]))),
                key=KEY,
            ),
            "covers the nonzeros",
        ),
        (
            lambda: sj.program_pool(np.ones(SHAPE), sj.Pool([sj.ArrayKind(4, 4)]), key=KEY),
            "device for every kind",
        ),
    ],
)
def test_wrong_plans_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
