import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj

A = np.random.default_rng(0).standard_normal((20, 12)).astype(np.float32)
KEY = jr.key(3)
SPREAD = sj.devices.AG_ASI  # cells differ, so the response of each is drawn
SCHEMES = {
    "write_and_verify": sj.write_and_verify,
    "sampled_rewrite": sj.sampled_rewrite,
    "hadamard_verify": sj.hadamard_verify,
    "open_loop": sj.open_loop,
}


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_wrapper_around_a_scheme_gives_its_numbers(name):
    scheme = SCHEMES[name]

    def wrapper(*arguments, **keywords):
        return scheme(*arguments, **keywords)

    wanted = sj.program(A, SPREAD, array=(16, 16), scheme=scheme, key=KEY)
    same(sj.program(A, SPREAD, array=(16, 16), scheme=wrapper, key=KEY), wanted)


def test_a_wrapper_around_a_mapping_or_scaling_gives_its_numbers():
    how = dict(array=(16, 16), key=KEY)
    wanted = sj.program(A, SPREAD, **how)
    mapping = functools.partial(sj.differential)
    same(sj.program(A, SPREAD, mapping=mapping, **how), wanted)
    x = np.ones(12, np.float32)
    # Two chunks, of which neither sees the largest entry of the other.
    streamed = lambda scaling: sj.stream_matvec(
        A, x, SPREAD, scaling=scaling, chunk_tiles=1, **how
    )
    same(streamed(lambda tiles: sj.global_scale(tiles)), streamed(sj.global_scale))


def test_a_scaling_of_ones_own_sees_the_tiles_that_there_are():
    mean = lambda tiles: jnp.full(
        (len(tiles), tiles.shape[2]), 3 * jnp.mean(jnp.abs(tiles)), tiles.dtype
    )
    B = np.full((4, 12), 0.5, np.float32)  # three tiles, where the loop takes eight
    crossbar, _ = sj.program(B, SPREAD, array=(4, 4), scaling=mean, key=KEY)
    np.testing.assert_allclose(crossbar.scale, 1.5, rtol=1e-6)


def test_a_mapping_of_ones_own_is_not_taken_for_a_pair():
    halves = lambda weights: sj.differential(weights / 2)  # both written at |w| / 2
    wanted = np.abs(sj.program(A, SPREAD, array=(16, 16), key=KEY)[0].weights).max()
    crossbar, _ = sj.program(A, SPREAD, array=(16, 16), mapping=halves, key=KEY)
    np.testing.assert_allclose(np.abs(crossbar.weights).max(), wanted / 2, rtol=0.05)


def test_a_record_is_as_good_as_its_keywords():
    how = sj.Programming(array=(16, 16), mapping=sj.offset, rule=sj.stagnation())
    wanted = sj.program(
        A, SPREAD, array=(16, 16), mapping=sj.offset, rule=sj.stagnation(), key=KEY
    )
    same(sj.program(A, SPREAD, how, key=KEY), wanted)
    # Keywords overrule the record.
    overruled = sj.program(A, SPREAD, how, mapping=sj.differential, key=KEY)
    assert overruled[0].conductance.shape[1] == 2


def test_every_function_that_programs_takes_the_record():
    how = sj.Programming(array=(16, 16), scheme=sj.open_loop)
    x, mesh = np.ones(12, np.float32), jax.make_mesh((1,), ("tiles",))
    device, pool = SPREAD, sj.Pool((sj.ArrayKind(16, 16, 8, SPREAD),))
    calls = {
        "program": lambda *how, **o: sj.program(A, device, *how, **o),
        "program_residual": lambda *how, **o: sj.program_residual(
            A, device, *how, slices=2, **o
        ),
        "program_bit_sliced": lambda *how, **o: sj.program_bit_sliced(
            A, device, *how, cell_bits=2, slices=2, **o
        ),
        "program_sharded": lambda *how, **o: sj.program_sharded(A, device, mesh, *how, **o),
        "program_pool": lambda *how, **o: sj.program_pool(A, pool, device, *how, **o),
        "stream_matvec": lambda *how, **o: sj.stream_matvec(A, x, device, *how, **o),
        "stream_corrected_matvec": lambda *how, **o: sj.stream_corrected_matvec(
            A, x, device, *how, **o
        ),
        "corrected_matvec": lambda *how, **o: sj.corrected_matvec(A, x, device, *how, **o),
        "nn.program_matrix": lambda *how, **o: sj.nn.program_matrix(A, device, *how, **o),
    }
    for name, call in calls.items():
        wanted = call(array=(16, 16), scheme=sj.open_loop, key=KEY)
        same(call(how, key=KEY), wanted)
        with pytest.raises(TypeError, match=rf"sedma_jax.{name}` has no option 'schem'"):
            call(how, schem=sj.open_loop, key=KEY)
