"""Time normal draws: alone, fused into a sum, and in write-and-verify over tiles.

    pytest bench/core/bench_random.py

The limit for noise that is stored is a copy of an array of the same size, and for other
noise the loop over tiles without any. NumPy's ziggurat (one core) is the yardstick.
"""

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import Device, move_state, nominal_response, normal, normal_pair

SHAPE = (4096, 4096)
TILE, TILES, ROUNDS = (256, 256), 64, 20
FLOAT = np.dtype("float32")


def _first(key, shape, dtype):
    return normal_pair(key, shape, dtype)[0]


def _numpy(key):
    seed = int(jr.key_data(key)[1])
    return np.random.default_rng(seed).standard_normal(SHAPE, dtype=FLOAT)


def _time(benchmark, function, *arguments, normals):
    jax.block_until_ready(function(*arguments))
    benchmark.extra_info |= {
        "device": str(jax.devices()[0]),
        "jax": jax.__version__,
        "dtype": FLOAT.name,
        "normals": normals,
    }
    benchmark.pedantic(
        lambda: jax.block_until_ready(function(*arguments)), rounds=9, warmup_rounds=1
    )
    if benchmark.disabled:
        return
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["normals_per_second"] = normals / seconds
    benchmark.extra_info["bytes_per_second"] = normals * FLOAT.itemsize / seconds


STORED = {
    "jax": jax.jit(lambda key: jr.normal(key, SHAPE, FLOAT)),
    "normal": lambda key: normal(key, SHAPE, FLOAT),
    "one of a pair": jax.jit(lambda key: _first(key, SHAPE, FLOAT)),
    "numpy": _numpy,
}


@pytest.mark.benchmark(group="stored 4096 x 4096")
@pytest.mark.parametrize("source", STORED)
def bench_stored(benchmark, source):
    key = jr.key(1)
    draw = STORED[source]
    assert abs(np.var(np.asarray(draw(key)), dtype=np.float64) - 1) < 0.002
    _time(benchmark, draw, key, normals=SHAPE[0] * SHAPE[1])


@pytest.mark.benchmark(group="stored 4096 x 4096")
def bench_copy(benchmark):
    array = jnp.ones(SHAPE, FLOAT)
    _time(benchmark, jax.jit(jnp.copy), array, normals=array.size)


@pytest.mark.benchmark(group="sum of a row of a + 0.1 normal, 4096 x 4096")
@pytest.mark.parametrize("draw", [jr.normal, normal, _first])
def bench_row_sum(benchmark, draw):
    array = jnp.ones(SHAPE, FLOAT)
    total = jax.jit(lambda a, key: jnp.sum(a + 0.1 * draw(key, SHAPE, FLOAT), axis=1))
    assert abs(np.mean(total(array, jr.key(2))) / SHAPE[1] - 1) < 2e-4
    _time(benchmark, total, array, jr.key(2), normals=array.size)


def _two(draw):
    def pair(key, shape, dtype):
        first, second = jr.split(key)
        return draw(first, shape, dtype), draw(second, shape, dtype)

    return pair


PAIRS = {"jax": _two(jr.normal), "normal": _two(normal), "pair": normal_pair}


@pytest.mark.benchmark(group="differential pairs, 2048 x 4096")
@pytest.mark.parametrize("source", PAIRS)
def bench_differential(benchmark, source):
    shape = (SHAPE[0] // 2, SHAPE[1])

    @jax.jit
    def weight(positive, negative, key):
        first, second = PAIRS[source](key, shape, FLOAT)
        return positive * (1 + 0.1 * first) - negative * (1 + 0.1 * second)

    ones = jnp.ones(shape, FLOAT)
    assert abs(np.var(weight(ones, ones, jr.key(3))) / 0.02 - 1) < 0.01
    _time(benchmark, weight, ones, ones, jr.key(3), normals=2 * ones.size)


def _no_noise(key, shape, dtype):
    return jnp.zeros(shape, dtype)


def _rounds(draw):
    device = Device(
        g_min=1e-6, g_max=5e-5, pulses_ltp=64.0, pulses_ltd=64.0,
        nonlinearity_ltp=1.2, nonlinearity_ltd=-1.2, sigma_c2c=0.02,
    )  # fmt: skip
    response = nominal_response(device, FLOAT)

    def program(target, key):
        def body(i, state):
            pulses = jnp.clip(jnp.round((target - state) * 64), -20, 20)
            noise = draw(jr.fold_in(key, i), TILE, FLOAT)
            return move_state(state, pulses, device, response, noise)

        return lax.fori_loop(0, ROUNDS, body, jnp.zeros_like(target))

    return program


MAPPINGS = {
    "vmap": lambda program: jax.jit(jax.vmap(program)),
    "lax.map": lambda program: jax.jit(
        lambda targets, keys: lax.map(lambda pair: program(*pair), (targets, keys))
    ),
}


@pytest.mark.benchmark(group="20 rounds over 64 tiles of 256 x 256")
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("draw", [jr.normal, normal, _first, _no_noise])
def bench_tiles(benchmark, draw, mapping):
    program = MAPPINGS[mapping](_rounds(draw))
    targets = jr.uniform(jr.key(4), (TILES, *TILE), FLOAT)
    index = jnp.arange(TILES, dtype=jnp.uint32)
    keys = jax.vmap(jr.fold_in, (None, 0))(jr.key(5), index)
    assert np.mean(np.abs(program(targets, keys) - targets)) < 0.05
    _time(benchmark, program, targets, keys, normals=ROUNDS * targets.size)
