"""Time the core against what bounds it: the exact product, one draw of noise, a copy.

    pytest bench/core/bench_core.py --benchmark-sort=mean

Each group is one size; pytest-benchmark prints every time as a multiple of the fastest of
its group. `program` and `corrected_matvec` run the whole write-and-verify.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj

DEVICE = sj.devices.TAOX_HFOX
SIZES = (1024, 4096)
IDEAL = jax.jit(lambda A, x: jnp.matmul(A, x, precision=jax.lax.Precision.HIGHEST))


@pytest.fixture(scope="module", params=SIZES)
def problem(request):
    n = request.param
    rng = np.random.default_rng(0)
    A = jnp.asarray(rng.normal(size=(n, n)), jnp.float32)
    x = jnp.asarray(rng.normal(size=n), jnp.float32)
    return A, x, sj.program(A, DEVICE, key=jr.key(0))


def _time(benchmark, function, *arguments, size, bytes_moved, rounds=7):
    jax.block_until_ready(function(*arguments))
    benchmark.group = f"n = {size}"
    benchmark.extra_info |= {
        "device": str(jax.devices()[0]),
        "jax": jax.__version__,
        "dtype": "float32",
        "shape": [size, size],
    }
    benchmark.pedantic(lambda: jax.block_until_ready(function(*arguments)), rounds=rounds)
    if not benchmark.disabled:
        rate = bytes_moved / benchmark.stats.stats.median
        benchmark.extra_info["bytes_per_second"] = rate


def bench_ideal(benchmark, problem):
    A, x, _ = problem
    _time(benchmark, IDEAL, A, x, size=len(x), bytes_moved=A.nbytes)


def bench_copy(benchmark, problem):
    A, x, _ = problem
    _time(benchmark, jax.jit(jnp.copy), A, size=len(x), bytes_moved=2 * A.nbytes)


def bench_normal_draw(benchmark, problem):
    A, x, _ = problem
    draw = jax.jit(lambda key: jr.normal(key, A.shape, A.dtype))
    _time(benchmark, draw, jr.key(1), size=len(x), bytes_moved=A.nbytes)


def bench_program(benchmark, problem):
    A, x, (_, stats) = problem
    residual = np.asarray(stats.per_array.residual)
    assert (residual < 0.01).all()
    work = lambda A: sj.program(A, DEVICE, key=jr.key(0))
    _time(benchmark, work, A, size=len(x), bytes_moved=A.nbytes, rounds=3)


def bench_matvec(benchmark, problem):
    A, x, (crossbar, _) = problem
    error = sj.matvec(crossbar, x, key=jr.key(1)) - A @ x
    assert jnp.linalg.norm(error) < 0.1 * jnp.linalg.norm(A @ x)
    work = lambda x: sj.matvec(crossbar, x, key=jr.key(1))
    _time(benchmark, work, x, size=len(x), bytes_moved=A.nbytes)


def bench_corrected_matvec(benchmark, problem):
    A, x, programmed = problem
    work = lambda x: sj.corrected_matvec(A, x, DEVICE, programmed=programmed, key=jr.key(2))
    info = work(x)[1]
    assert info.relative_l2_corrected < 0.01
    _time(benchmark, work, x, size=len(x), bytes_moved=3 * A.nbytes)


def bench_denoise(benchmark, problem):
    A, x, _ = problem
    np.testing.assert_allclose(sj.denoise(jnp.ones_like(A), 0.3), 1, rtol=1e-5)
    work = jax.jit(lambda A: sj.denoise(A, 0.3))
    _time(benchmark, work, A, size=len(x), bytes_moved=2 * A.nbytes)
