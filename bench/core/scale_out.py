"""Program and multiply on all devices of one process, of several, or of a Kubernetes Job.

    python bench/core/scale_out.py

It imports nothing else from the benches, so that this file alone can be put into an image.
The same script runs in every process. It reads its place from the environment:

- `NUM_PROCESSES`: processes in all; one if left out.
- `JAX_COORDINATOR`: `host:port` of process 0, on which it listens.
- `PROCESS_ID`, or the `JOB_COMPLETION_INDEX` that an Indexed Job sets.

Each process cuts and programs the tiles of its own devices, and prints a digest of what
all cells hold, which is the same in every process and for any number of processes. Sums of
the product may differ in their last bits: neighbouring tiles are multiplied as one strip,
whose length depends on how tiles are shared out. `--out FILE` keeps the product.
`docs/indexed-job.yaml` is a manifest.

When a process is lost, the others end with exit status 1 and one line as soon as they wait
for it. If its end is not seen (a stopped process, a cut cable) they end after `--timeout`
seconds. If process 0 is lost, JAX aborts the others at once, with its own message.
"""

import argparse
import hashlib
import os
import sys
import time

import jax
import jax.random as jr
import numpy as np
from jax.experimental.multihost_utils import process_allgather

import sedma_jax as sj


class WaveMatrix:
    """A matrix computed from its indices, slice by slice; none of it is ever sent."""

    dtype = np.dtype(np.float32)

    def __init__(self, size: int):
        self.shape = (size, size)

    def __getitem__(self, slices):
        ranges = [slice(*s.indices(self.shape[0])[:2]) for s in slices]
        row, col = np.ogrid[tuple(ranges)]
        return np.cos(1.3 * row + 0.001 * col**2 + 0.7 * col).astype(self.dtype)


def join_processes(timeout: int) -> tuple[int, int]:
    """Connect the processes that the environment names; own number, and count of all."""
    count = int(os.environ.get("NUM_PROCESSES", "1"))
    if count == 1:
        return 0, 1
    place = os.environ.get("PROCESS_ID", os.environ.get("JOB_COMPLETION_INDEX"))
    coordinator = os.environ.get("JAX_COORDINATOR")
    if place is None or coordinator is None:
        raise ValueError(
            f"NUM_PROCESSES={count} needs JAX_COORDINATOR, and PROCESS_ID or "
            f"JOB_COMPLETION_INDEX. Got {coordinator} and {place}. Set them."
        )
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        coordinator,
        count,
        int(place),
        cluster_detection_method="deactivate",
        initialization_timeout=max(timeout, 60),
        heartbeat_timeout_seconds=timeout,
        shutdown_timeout_seconds=timeout,
    )
    return int(place), count


def cells_digest(crossbar: sj.Crossbar) -> str:
    """A digest of all stored tiles, in any order and on any process."""
    own = 0
    for weights, scale in zip(
        crossbar.weights.addressable_shards, crossbar.scale.addressable_shards, strict=True
    ):
        if weights.replica_id == 0:
            held = np.asarray(scale.data)
            # Columns without a scale are padding.
            for tile in (
                np.asarray(weights.data)[held.any(1)] * (held[held.any(1)] != 0)[:, None]
            ):
                code = hashlib.blake2b(tile.tobytes(), digest_size=16).digest()
                own ^= int.from_bytes(code)
    words = np.frombuffer(own.to_bytes(16), np.uint32)
    everyone = np.atleast_2d(process_allgather(words))
    return np.bitwise_xor.reduce(everyone, axis=0).tobytes().hex()


def work(options: argparse.Namespace, place: int, count: int) -> None:
    def report(text):
        print(f"process {place} of {count}: {text}", flush=True)

    A = WaveMatrix(options.size)
    x = np.random.default_rng(0).normal(size=(options.batch, options.size))
    devices = np.array(jax.devices())
    lay = devices[:, None] if options.mesh == "tiles" else devices[None]
    mesh = jax.sharding.Mesh(lay, ("tiles", "batch"))
    device = sj.devices.PRESETS[options.device]
    program_key, read_key = jr.split(jr.key(0))
    start = time.perf_counter()
    array = (options.array, options.array)
    crossbar, stats = sj.program_sharded(A, device, mesh, array=array, key=program_key)
    tiles = len(jax.block_until_ready(stats).per_array.pulses)
    report(f"programmed {tiles} tiles in {time.perf_counter() - start:.2f} s")
    x = x.astype(np.float32)
    how = dict(replicate=options.mesh == "tiles", key=read_key)
    multiply = lambda: jax.block_until_ready(sj.matvec_sharded(crossbar, x, **how))
    y = np.asarray(sj.matvec_sharded(crossbar, x, key=read_key))
    multiply()
    start = time.perf_counter()
    for _ in range(options.steps):
        multiply()
    seconds = time.perf_counter() - start
    rate = 2e-9 * options.size**2 * options.batch * options.steps / seconds
    report(f"{rate:.3g} GFLOP/s, {jax.device_count()} x {jax.devices()[0].device_kind}")
    report(f"cells {cells_digest(crossbar)}")
    if options.out is not None and place == 0:
        np.save(options.out, y)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--array", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--mesh",
        choices=("tiles", "batch"),
        default="tiles",
        help="split the tiles and send outputs, or the vectors and hold all tiles each",
    )
    parser.add_argument("--device", choices=sj.devices.PRESETS, default="epiram")
    parser.add_argument(
        "--timeout",
        type=int,
        default=30,
        help="seconds of silence until a process counts as lost",
    )
    parser.add_argument("--out", help=".npy file for the product")
    options = parser.parse_args()
    try:
        place, count = join_processes(options.timeout)
        work(options, place, count)
        if count > 1:
            jax.distributed.shutdown()
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        print(f"scale_out: a process was lost, or failed: {reason}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        # Not `sys.exit`: JAX would wait there for the processes that are gone.
        os._exit(1)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
