import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import pytest
import scipy.sparse
from tolerances import gamma

import sedma_jax as sj
from sedma_jax._programming import sharding as _sharding

ROOT = Path(__file__).parents[2]
SCALE_OUT = [sys.executable, str(ROOT / "bench/core/scale_out.py")]
SMALL = ["--size", "40", "--array", "8", "--batch", "2", "--device", "taox-hfox"]

# The number of devices of a process is fixed before JAX starts.
ON_FOUR_DEVICES = """
import jax, jax.random as jr, numpy as np, scipy.sparse, sedma_jax as sj
# Division by 40 or by 50 is not exact: a compiler that knows the number may replace it.
device = sj.Device(g_min=1e-6, g_max=5e-5, pulses_ltp=40, pulses_ltd=50, sigma_c2c=0.05,
                   nonlinearity_ltp=1.94, sigma_read=0.01, r_access=15e3)
A = np.random.default_rng(0).normal(size=(69, 55)).astype("f4")
A[16:32, :8] = 0
x = np.random.default_rng(1).normal(size=(4, 55)).astype("f4")
how = dict(array=(8, 8), arrays=4, scaling=sj.global_scale, key=jr.key(1))
for A, shapes in ((A, ((3,), (2, 2))), (scipy.sparse.csr_array(A), ((4,),))):
    crossbar, stats = sj.program(A, device, **how)
    y = sj.matvec(crossbar, x, key=jr.key(2))
    for shape in shapes:
        mesh = jax.make_mesh(
            shape, ("tiles", "batch")[: len(shape)],
            devices=jax.devices()[: np.prod(shape)])
        sharded, sharded_stats = sj.program_sharded(A, device, mesh, **how)
        assert len(sharded.weights.sharding.device_set) == np.prod(shape)
        for one, other in zip(jax.tree.leaves(stats), jax.tree.leaves(sharded_stats)):
            # Norms and energies are sums over 128 cells, compiled another way, and over
            # 63 tiles.
            np.testing.assert_allclose(one, other, rtol=(128 + 63) * 2**-23)
        stored = np.asarray(sharded.weights * (sharded.scale != 0)[:, None, :])
        order = np.lexsort((sharded.outputs, sharded.inputs))
        order = order[np.asarray(sharded.scale).any(1)[order]]
        np.testing.assert_array_equal(stored[order], crossbar.weights)
        product = sj.matvec_sharded(sharded, x, key=jr.key(2))
        # Compiled for other numbers of tiles, sums may be rounded otherwise; the noise is
        # a thousand times larger than that.
        np.testing.assert_allclose(product, y, rtol=0, atol=1e-4)
        assert product.sharding.is_fully_replicated
"""


def environment(count=1, place=None, port=None):
    own = {"NUM_PROCESSES": str(count), "JAX_COORDINATOR": f"127.0.0.1:{port}"}
    inherited = {k: v for k, v in os.environ.items() if k not in own}
    if count == 1:
        return inherited
    # The coordinator is told as by hand, the other as by an Indexed Job.
    name = "PROCESS_ID" if place == 0 else "JOB_COMPLETION_INDEX"
    return inherited | own | {name: str(place)}


def start(*arguments, **where):
    return subprocess.Popen(
        [*SCALE_OUT, *SMALL, *arguments],
        env=environment(**where),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
def test_tiles_on_several_devices_give_the_same_product():
    flag = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    subprocess.run(
        [sys.executable, "-c", ON_FOUR_DEVICES], check=True, env=environment() | flag
    )


@pytest.mark.slow  # bits
def test_one_device_gives_the_same_product():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("tiles",))
    A = scipy.sparse.random_array((20, 9), density=0.05, rng=3)
    x = np.random.default_rng(1).normal(size=9)
    how = dict(array=(8, 8), key=jr.key(1))
    crossbar, _ = sj.program(A, sj.devices.EPIRAM, **how)
    sharded, _ = sj.program_sharded(A, sj.devices.EPIRAM, mesh, **how)
    np.testing.assert_array_equal(sharded.weights, crossbar.weights)
    np.testing.assert_array_equal(
        sj.matvec_sharded(sharded, x, key=jr.key(2)),
        sj.matvec(crossbar, x, key=jr.key(2)),
    )
    with pytest.raises(ValueError, match="of `program_sharded`"):
        sj.matvec_sharded(crossbar, x, key=jr.key(2))
    other = jax.sharding.Mesh(mesh.devices, ("rows",))
    with pytest.raises(ValueError, match="axes"):
        sj.program_sharded(A, sj.devices.EPIRAM, other, **how)


def test_another_matrix_compiles_nothing_anew():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("tiles",))
    compiled = []
    for seed in range(3):
        A = np.random.default_rng(seed).normal(size=(9, 9))
        how = dict(array=(8, 8), scaling=sj.global_scale, key=jr.key(1))
        sj.program_sharded(A, sj.devices.EPIRAM, mesh, **how)
        compiled.append(_sharding._program._cached._cache_size())
    assert compiled[1:] == compiled[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["tiles", "batch"])
def test_two_processes_program_the_cells_of_one_and_multiply_alike(mesh, tmp_path):
    port = free_port()
    files = [str(tmp_path / f"{count}.npy") for count in (1, 2)]
    jobs = [
        start("--out", files[0]),
        *(
            start("--mesh", mesh, "--out", files[1], count=2, place=i, port=port)
            for i in range(2)
        ),
    ]
    outputs = [job.communicate() for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], outputs
    cells = [out.rpartition("cells ")[2] for out, _ in outputs]
    assert len(cells[0]) == 33
    assert cells[1:] == cells[:1] * 2
    one, two = map(np.load, files)
    # Entries are at most 1, vectors those of the script. The products and their noise are
    # sums over 40 cells in two orders.
    x = np.random.default_rng(0).normal(size=(2, 40))
    bound = 2 * gamma(2 * 40, np.float32) * np.abs(x).sum(1, keepdims=True)
    assert np.all(np.abs(one - two) <= bound)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "how", "bound"),
    [(1, signal.SIGKILL, 20), (0, signal.SIGKILL, 20), (1, signal.SIGSTOP, 40)],
)
def test_a_lost_process_ends_the_other(lost, how, bound):
    port = free_port()
    arguments = ("--steps", "1000000", "--timeout", "10")
    jobs = [start(*arguments, count=2, place=i, port=port) for i in range(2)]
    try:
        for job in jobs:
            assert any("programmed" in line for line in job.stdout)
        jobs[lost].send_signal(how)
        begin = time.monotonic()
        _, err = jobs[1 - lost].communicate(timeout=bound)
        print(f"ended after {time.monotonic() - begin:.1f} s:", err)
        assert jobs[1 - lost].returncode not in (0, None)
        assert err
    finally:
        for job in jobs:
            job.kill()
            job.communicate()
