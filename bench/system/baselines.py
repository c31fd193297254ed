"""Ray and torch.distributed on the matrices of `system.py`, in a process of their own.

    PYTHON -m bench.system.baselines (ray | torch) FILE.npz SEEDS

FILE has matrices `a0`, `a1`, ... For each seed every matrix is cut into two equal shards of
rows, padded with zeros, as users of either would for two workers; the shards are sent, each
worker multiplies its own, and the parts are gathered. The product is exact, since neither
has crossbars. Prints one JSON object of lists over seeds: `efficiency` (entries over the
cells of the padded shards), `throughput` (products per second, sending the shards included)
and `latency` (ms from a request for 1 MiB from the other worker to its last byte, hash
checked). Imports neither JAX nor sedma_jax.
"""

import hashlib
import json
import os
import socket
import sys
import time
from datetime import timedelta
from importlib.metadata import version

import numpy as np

WORKERS, TRANSFERS = 2, 20


def shards(A):
    """Equal blocks of rows, the last one padded."""
    rows = -(-len(A) // WORKERS)
    padded = np.zeros((rows * WORKERS, A.shape[1]), A.dtype)
    padded[: len(A)] = A
    return padded.reshape(WORKERS, rows, -1)


def checked(y, A, x):
    exact = A.astype(np.float64) @ x
    if not np.allclose(y, exact, rtol=1e-4, atol=1e-4 * np.abs(exact).max()):
        raise AssertionError("not the product")


def of_ray():
    """`multiply(parts, x)` and `fetch(seed)` by actors on this machine."""
    import ray

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)

    @ray.remote(num_cpus=1)
    class Worker:
        def load(self, part):
            self.part = part

        def multiply(self, x):
            return self.part @ x

        def tensor(self, seed):
            return np.random.default_rng(seed).integers(0, 255, 2**20, np.uint8)

    workers = [Worker.remote() for _ in range(WORKERS)]

    def multiply(parts, x):
        pairs = list(zip(workers, parts, strict=True))
        ray.get([worker.load.remote(part) for worker, part in pairs])
        vector = ray.put(x)
        return ray.get([worker.multiply.remote(vector) for worker in workers])

    def fetch(seed):
        return ray.get(workers[0].tensor.remote(seed))

    return multiply, fetch, ray.shutdown


def of_torch():
    """The same by gloo: rank 0 asks, rank 1 is a forked process, and both multiply."""
    import torch
    import torch.distributed as dist

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rank = 0 if os.fork() else 1
    where = f"tcp://127.0.0.1:{port}"
    limit = timedelta(minutes=20)
    dist.init_process_group(
        "gloo", init_method=where, rank=rank, world_size=WORKERS, timeout=limit
    )
    torch.set_num_threads(1)

    def product(parts, x, rows, cols):
        part, vector = torch.empty(rows, cols), torch.empty(cols)
        if parts is not None:
            vector = torch.from_numpy(x)
            dist.scatter(part, [torch.from_numpy(p) for p in parts])
        else:
            dist.scatter(part)
        dist.broadcast(vector, 0)
        y = part @ vector
        gathered = (
            [torch.empty(rows) for _ in range(WORKERS)] if parts is not None else None
        )
        dist.gather(y, gathered)
        return gathered

    if rank == 1:
        while True:
            order = torch.empty(3, dtype=torch.int64)
            dist.recv(order, 0)
            what, rows, cols = order.tolist()
            if what == 0:
                os._exit(0)
            elif what == 1:
                product(None, None, rows, cols)
            else:
                sent = np.random.default_rng(rows).integers(0, 255, 2**20, np.uint8)
                dist.send(torch.from_numpy(sent), 0)

    def order(*words):
        dist.send(torch.tensor(words, dtype=torch.int64), 1)

    def multiply(parts, x):
        rows, cols = parts[0].shape
        order(1, rows, cols)
        return [part.numpy() for part in product(parts, x, rows, cols)]

    def fetch(seed):
        order(2, seed, 0)
        got = torch.empty(2**20, dtype=torch.uint8)
        dist.recv(got, 1)
        return got.numpy()

    return multiply, fetch, lambda: order(0, 0, 0)


def measure(multiply, fetch, matrices, seeds):
    """Efficiency, throughput and latency, as lists over seeds."""
    held = sum(A.size for A in matrices) / sum(shards(A).size for A in matrices)
    digests = [
        hashlib.sha256(np.random.default_rng(seed).integers(0, 255, 2**20, np.uint8))
        for seed in range(TRANSFERS)
    ]
    found = {"efficiency": [], "throughput": [], "latency": []}
    for seed in range(-1, seeds):  # the first warms up
        rng, seconds, taken = np.random.default_rng(max(seed, 0)), 0.0, []
        for A in matrices:
            x = rng.random(A.shape[1], dtype=np.float32)
            start = time.perf_counter()
            y = np.concatenate(multiply(list(shards(A)), x))[: len(A)]
            seconds += time.perf_counter() - start
            checked(y, A, x)
        for k, digest in enumerate(digests):
            start = time.perf_counter()
            same = hashlib.sha256(fetch(k)).digest() == digest.digest()
            taken.append(1e3 * (time.perf_counter() - start))
            if not same:
                raise AssertionError("not the tensor that was asked for")
        if seed >= 0:
            found["efficiency"].append(held)
            found["throughput"].append(len(matrices) / seconds)
            found["latency"].append(float(np.mean(taken)))
    return found


if __name__ == "__main__":
    name, file, count = sys.argv[1:]
    with np.load(file) as stored:
        given = [stored[f"a{k}"] for k in range(len(stored))]
    ask, ask_tensor, close = {"ray": of_ray, "torch": of_torch}[name]()
    result = measure(ask, ask_tensor, given, int(count))
    close()
    print(json.dumps({"version": version(name), "figures": result}), flush=True)
