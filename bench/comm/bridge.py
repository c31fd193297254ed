"""What a node costs the computation beside it: in a thread, and in a process of its own.

    python -m bench.comm.bridge [--rounds 5] [--out FILE]

A peer in another process sends tensors of 16 MiB, one after the other, while this process
does nothing, runs pure Python, or multiplies matrices by JAX. Prints the MB/s that arrive
and the turns of the computation per second, medians over interleaved rounds.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

import jax.numpy as jnp
import numpy as np

from bench.shared import RESULTS, parser_of, write_json
from sedma_jax import comm

TENSORS, SECONDS = 8, 3.0
EVERYONE = frozenset({comm.EVERYONE})
PEER = """
import sys, numpy as np
from sedma_jax import comm
with comm.open_node(allowed=frozenset({comm.EVERYONE}), capacity=2**28) as node:
    cids = [node.put(np.full(2**21, float(i))) for i in range(%d)]
    print(*node.addresses[:1], *cids, flush=True)
    sys.stdin.read()
"""


def main():
    """Run all rounds, print, write."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "bridge.json")
    options = parser.parse_args()
    found = {}
    for _ in range(options.rounds):
        for beside in BESIDE:
            for way in WAYS:
                found.setdefault(f"{way}, {beside}", []).append(one_round(way, beside))
            found.setdefault(f"no node, {beside}", []).append((0.0, turns(beside, None)))
    result = {
        name: {
            "MB/s": median(rate for rate, _ in rounds),
            "turns/s": median(rate for _, rate in rounds),
        }
        for name, rounds in found.items()
    }
    for name, rates in result.items():
        print(f"{name:32}{rates['MB/s']:8.0f} MB/s {rates['turns/s']:10.1f} turns/s")
    record = {"cores": os.cpu_count(), "rounds": options.rounds, "rates": result}
    write_json(options.out, record)


def one_round(way, beside):
    """MB/s and turns/s with a node of one kind."""
    peer = subprocess.Popen(
        [sys.executable, "-c", PEER % TENSORS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert peer.stdout is not None
        address, *cids = peer.stdout.readline().split()
        # There is room for none of them, so that each is fetched every time.
        with WAYS[way](allowed=EVERYONE, capacity=2**20) as node:
            node.connect(address)
            node.get(cids[0], timeout=60)  # compiled before the clock runs
            received, stop = [0], threading.Event()

            def fetch():
                while not stop.is_set():
                    for cid in cids:
                        received[0] += node.get(cid, timeout=60).nbytes

            worker = threading.Thread(target=fetch)
            started = time.perf_counter()
            worker.start()
            rate = turns(beside, stop)
            worker.join()
            return received[0] / 1e6 / (time.perf_counter() - started), rate
    finally:
        peer.kill()
        peer.wait()


def turns(beside, stop):
    """Turns per second of the computation."""
    turn, count = BESIDE[beside], 0
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        turn()
        count += 1
    if stop is not None:
        stop.set()
    return count / (time.perf_counter() - started)


MATRIX = jnp.asarray(np.random.default_rng(0).normal(size=(700, 700)), jnp.float32)


def multiply():
    """A product on all cores."""
    jnp.matmul(MATRIX, MATRIX).block_until_ready()


def count_up():
    """Keep the interpreter busy."""
    for _ in range(100_000):
        pass


WAYS = {"thread": comm.open_node, "process": comm.open_node_process}
BESIDE = {
    "idle": lambda: time.sleep(0.01),
    "pure Python": count_up,
    "JAX": multiply,
}

if __name__ == "__main__":
    main()
