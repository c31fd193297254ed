"""Traced code has no host callback, so it lowers for every platform and is cached."""

import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax import export
from jax.experimental import checkify

import sedma_jax as sj

DEVICE = sj.devices.EPIRAM
HOW = sj.Programming(array=(16, 16))
A = jnp.asarray(np.random.default_rng(0).standard_normal((20, 12)), jnp.float32)
X = jnp.ones(12, jnp.float32)
KEY = jr.key_data(jr.key(0))  # `jax.export` takes no typed keys


def program(A, key):
    return sj.program(A, DEVICE, HOW, key=jr.wrap_key_data(key))


def matvec(A, x, key):
    crossbar = sj.program_exactly(A, DEVICE, array=(16, 16))
    return sj.matvec(crossbar, x, key=jr.wrap_key_data(key))


def corrected(A, x, key):
    return sj.corrected_matvec(A, x, DEVICE, HOW, key=jr.wrap_key_data(key))[0]


def _network(weight):
    layer = eqx.nn.Linear(12, 20, dtype=jnp.float32, key=jr.key(1))
    return eqx.tree_at(lambda layer: layer.weight, layer, weight)


def network(A, x, key):
    key = jr.wrap_key_data(key)
    return sj.nn.analogize(_network(A), DEVICE, array=(16, 16), key=key)(x, key=key)


def training_step(A, x, key):
    """One step of hardware-aware training."""

    def loss(weight):
        model = sj.nn.hardware_aware(_network(weight), DEVICE, array=(16, 16))
        return jnp.sum(model(x, key=jr.wrap_key_data(key)) ** 2)

    optimiser = optax.sgd(0.1)
    updates, _ = optimiser.update(jax.grad(loss)(A), optimiser.init(A))
    return optax.apply_updates(A, updates)


@pytest.mark.parametrize("call", [matvec, corrected, network, training_step])
def test_products_export_for_every_platform(call):
    exported = export.export(jax.jit(call), platforms=("cpu", "cuda", "tpu"))(A, X, KEY)
    y = exported.call(A, X, KEY)
    np.testing.assert_allclose(y, jax.jit(call)(A, X, KEY), rtol=1e-6, atol=1e-6)


def test_programming_exports_for_every_platform():
    strips = jax.jit(lambda A, key: program(A, key)[0].strips)
    exported = export.export(strips, platforms=("cpu", "cuda", "tpu"))(A, KEY)
    np.testing.assert_array_equal(exported.call(A, KEY), strips(A, KEY))


def test_checkify_finds_what_flows_on_under_jit():
    bad = A.at[3, 2].set(jnp.nan)
    assert np.isnan(jax.jit(matvec)(bad, X, KEY)).any()
    error, _ = checkify.checkify(jax.jit(matvec))(bad, X, KEY)
    assert "`A` needs finite entries" in error.get()
    error, _ = checkify.checkify(jax.jit(matvec))(A, X, KEY)
    assert error.get() is None


CACHED = """
import sys, jax, jax.numpy as jnp, jax.random as jr, sedma_jax as sj
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

@jax.jit
def users_own(A, x):
    crossbar = sj.program_exactly(A, sj.devices.EPIRAM, array=(16, 16))
    return sj.matvec(crossbar, x, key=jr.key(0))

users_own(jnp.ones((20, 12)), jnp.ones(12))
"""


def test_calls_that_a_user_compiles_are_kept_by_jax(tmp_path):
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "true"}
    command = [sys.executable, "-c", CACHED, str(tmp_path)]
    subprocess.run(command, check=True, env=environment)
    assert any(path.name.startswith("jit_users_own") for path in tmp_path.iterdir())
