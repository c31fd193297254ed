import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.sparse
from jax.experimental import sparse as jax_sparse
from tolerances import gamma

import sedma_jax as sj

ARRAY = (8, 8)
DEVICE = sj.devices.EPIRAM
KEY = jr.key(5)
NOISY = sj.Device(g_min=0.0, g_max=1e-5, pulses_ltp=64, pulses_ltd=64, sigma_read=0.01)


def random(shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def in_memory(A, x, device=DEVICE, *, dac=None, adc=None, key=KEY, **how):
    program_key, read_key = jr.split(key)
    crossbar, stats = sj.program(A, device, array=ARRAY, key=program_key, **how)
    return sj.matvec(crossbar, x, dac=dac, adc=adc, key=read_key), stats, crossbar


def stream(A, x, device=DEVICE, **how):
    how = {"array": ARRAY, "key": KEY, "chunk_tiles": 4} | how
    return sj.stream_matvec(A, x, device, **how)


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_whole_outputs_are_those_of_the_crossbar():
    # Three tiles an output: a chunk of four holds one output and leaves one tile free.
    A, x = random((21, 23)), random((2, 23), 1)
    how = dict(dac=sj.DAC(6), adc=sj.ADC(6), arrays=2, scaling=sj.global_scale)
    expected, stats, _ = in_memory(A, x, NOISY, **how)
    y, streamed = stream(A, x, NOISY, **how)
    # The noise is drawn alike: without it they would differ by its spread.
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    same(streamed, stats)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_partial_sums_differ_by_rounding(dtype):
    A, x = random((5, 70), dtype=dtype), random(70, 1, dtype)  # nine tiles an output
    expected, stats, crossbar = in_memory(A, x)
    y, streamed = stream(A, x)
    assert (y.shape, y.dtype) == ((5,), dtype)
    same(streamed, stats)
    stored = np.abs(np.asarray(sj.stored_matrix(crossbar), np.float64))
    bound = 2 * gamma(70 + 12, dtype) * (stored @ np.abs(x))
    assert (np.abs(np.asarray(y) - np.asarray(expected)) <= bound).all()


def test_every_kind_of_matrix(tmp_path):
    scattered = scipy.sparse.random_array((40, 33), density=0.01, rng=1, format="csr")
    dense = scattered.toarray()
    np.save(tmp_path / "a.npy", dense)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    x = random(33)
    expected, stats, _ = in_memory(scattered, x)
    assert 0 < len(stats.per_array.pulses) < 25
    for A in (scattered, scattered.tocoo(), jax_sparse.BCOO.fromdense(dense)):
        y, streamed = stream(A, x)
        np.testing.assert_array_equal(y, expected)
        same(streamed, stats)
    of_dense = stream(dense, x)
    for A in (mapped, jnp.asarray(dense), np.asfortranarray(dense)):
        same(stream(A, x), of_dense)
    y, stats = stream(scipy.sparse.csr_array((40, 33)), x)
    assert (float(jnp.abs(y).sum()), float(stats.pulses)) == (0, 0)
    integers = (10 * dense).astype(int)
    same(stream(integers, x), stream(integers.astype(float), x))


def test_the_corrected_product_is_that_of_the_crossbar():
    A, x = random((21, 23)), random((2, 23), 1)
    how = dict(array=ARRAY, lam=0.1, adc=sj.ADC(8), key=KEY)
    y, info = sj.stream_corrected_matvec(A, x, NOISY, chunk_tiles=4, **how)
    expected, whole = sj.corrected_matvec(A, x, NOISY, **how)
    same((info.stats, info.vector_stats), (whole.stats, whole.vector_stats))
    np.testing.assert_allclose(info.raw, whole.raw, rtol=1e-12)
    # The exact products are rounded elsewhere: not more than their length allows.
    bound = gamma(60, np.float64) * np.max(np.abs(A) @ np.abs(x.T))
    np.testing.assert_allclose(y, expected, rtol=0, atol=4 * bound)
    one, _ = sj.stream_corrected_matvec(A, x[0], NOISY, chunk_tiles=4, **how)
    assert one.shape == (21,)


def test_a_job_goes_on_from_its_checkpoint(tmp_path):
    A, x, path = random((21, 23)), random(23, 1), tmp_path / "job.npz"
    expected = stream(A, x)

    class Stop(Exception):
        pass

    def stop(done, total):
        assert total == 9
        if done >= 6:
            raise Stop

    with pytest.raises(Stop):
        stream(A, x, checkpoint=path, progress=stop)
    seen = []
    resumed = stream(A, x, checkpoint=path, progress=lambda *d: seen.append(d))
    assert seen == [(9, 9)]
    same(resumed, expected)
    # A finished job is read back, and nothing else lies about.
    same(stream(A, x, checkpoint=path, progress=lambda *d: seen.append(d)), expected)
    assert seen == [(9, 9)]
    assert [p.name for p in tmp_path.iterdir()] == ["job.npz"]


def test_another_job_does_not_go_on(tmp_path):
    A, x, path = random((21, 23)), random(23, 1), tmp_path / "job.npz"
    stream(A, x, checkpoint=path)
    content = path.read_bytes()
    others = {
        "matrix": dict(A=A + 1),
        "vector": dict(x=x + 1),
        "device": dict(device=NOISY),
        "options": dict(scaling=sj.tile_scale),
        "key": dict(key=jr.key(6)),
    }
    for name, change in others.items():
        arguments = {"A": A, "x": x, "checkpoint": path} | change
        with pytest.raises(ValueError, match=f"another {name}(, options)?\\."):
            stream(**arguments)
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="cannot be read"):
        stream(A, x, checkpoint=path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read"):
        stream(A, x, checkpoint=path)


JOB = """
import sys, jax.random as jr, numpy as np, sedma_jax as sj
A, x = (np.random.default_rng(s).normal(size=z) for s, z in ((0, (200, 24)), (1, 24)))
print("ready", flush=True)
y, stats = sj.stream_matvec(
    A, x, sj.devices.EPIRAM, array=(8, 8), chunk_tiles=4, checkpoint=sys.argv[1],
    progress=lambda done, total: print(done, flush=True), key=jr.key(5))
np.savez(sys.argv[2], y, *(np.asarray(v) for v in vars(stats.per_array).values()))
"""


@pytest.mark.slow
def test_a_killed_job_resumes_with_the_same_numbers(tmp_path):
    def start(checkpoint, out):
        command = [sys.executable, "-c", JOB, tmp_path / checkpoint, tmp_path / out]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    whole = start("whole.npz", "expected.npz")
    steps = whole.communicate()[0].split()[1:]
    killed = start("part.npz", "never.npz")
    for line in killed.stdout:
        if line.strip() == steps[5]:
            killed.send_signal(signal.SIGKILL)
            break
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    assert not (tmp_path / "never.npz").exists()
    resumed = start("part.npz", "resumed.npz")
    assert len(resumed.communicate()[0].split()[1:]) <= len(steps) - 6
    with np.load(tmp_path / "expected.npz") as a, np.load(tmp_path / "resumed.npz") as b:
        assert len(a) == len(b) == 9
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


MEMORY = """
import re, sys, jax.random as jr, numpy as np, sedma_jax as sj
def peak():
    text = open("/proc/self/status").read()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", text)[1]) * 1024

class Made:
    dtype = np.dtype("float32")
    def __init__(self, *shape):
        self.shape = shape
    def __getitem__(self, slices):
        row, col = (np.arange(*s.indices(n)[:2]) for s, n in zip(slices, self.shape))
        return np.cos(1.3 * row[:, None] + col**1.1).astype("f4")

def work(m, n):
    return sj.stream_matvec(
        Made(m, n), np.ones(n, "f4"), sj.devices.EPIRAM, rule=sj.stagnation(iterations=1),
        chunk_tiles=4, key=jr.key(0))
work(4096, 2048)  # compiles all programs
before = peak()
y, _ = work(4096, 4096)
assert y.shape == (4096,) and np.isfinite(np.asarray(y)).all()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux")
def test_memory_does_not_grow_with_the_matrix():
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    # Of 32 MiB more of matrix, 32 of weights and 64 of conductances nothing but chunks of
    # 1 MiB is held. Measured: 10 to 14 MB, of which inputs and sums are a part.
    assert int(done.stdout) < 32 * 2**20


def test_bad_input():
    A, x = random((9, 9)), random(9)
    with pytest.raises(ValueError, match="chunk_tiles >= 1"):
        stream(A, x, chunk_tiles=0)
    with pytest.raises(ValueError, match="one `full_scale`"):
        stream(A, x, adc=sj.ADC(6, jnp.ones((4, 1, 1))))
    A[8, 8] = np.nan
    with pytest.raises(ValueError, match="finite"):
        stream(A, x)
    with pytest.raises(ValueError, match="traced"):
        jax.jit(lambda A: stream(A, x)[0])(jnp.ones((9, 9)))
    with pytest.raises(ValueError, match="2 dimensions"):
        stream(np.ones(9), x)
