"""Two hundred transfers from five peers: one killed, one lying, one slow.

    python bench/five_peers.py [TRANSFERS]

Every peer is a process and has every tensor (1 MiB). A fifth of the way in, one is killed
with signal 9; one sends wrong bytes from the start, one waits 50 ms before each answer. The
client asks one provider for each tensor and another when that fails: chosen by score and
learnt weights (full), by XOR distance alone (DHT only), or by lot (random).
A choice counts as right when its peer was within 10 % of the best time that any peer had
for that tensor, all of them being asked afterwards, outside the latency.
"""

import hashlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import trio

from sedma_jax.comm import EVERYONE, NodeSettings, running_node
from sedma_jax.comm._fetch import FetchError, fetch_manifest, fetch_tensor
from sedma_jax.comm._peers import PeerTable

OPEN = {"allowed": frozenset({EVERYONE}), "status_every": 0.5}
KINDS = ["good", "good", "killed", "lying", "slow"]
TENSORS = 8


def tensor(seed):
    return np.random.default_rng(seed).integers(0, 255, 2**20, np.uint8)


async def hold(kind):
    async with running_node(NodeSettings(**OPEN)) as node:
        serve = node.methods._methods["range"]

        async def badly(call):
            if kind == "slow":
                await trio.sleep(0.05)
            body = await serve(call)
            return body if kind == "slow" else bytes(body[:-1]) + b"\0"

        for seed in range(TENSORS):
            await node.put(tensor(seed))
        if kind in ("slow", "lying"):
            node.methods.add("range", badly)
        print(node.addresses[0], flush=True)
        await trio.sleep_forever()


async def transfer(node, manifest, name):
    """Seconds for a whole tensor from one peer, verified; None if it failed."""
    started = time.perf_counter()
    try:
        await fetch_tensor(node.calls, node.peers, manifest, [name])
    except FetchError:
        return None
    return time.perf_counter() - started


async def run(policy, count, processes, addresses):
    lot = random.Random(7)
    async with running_node(NodeSettings(**OPEN)) as node:
        names = [await node.connect(address) for address in addresses]
        await trio.sleep(2)  # statuses
        manifests = []
        for seed in range(TENSORS):
            manifests.append((await cid_of(node, seed, names), tensor(seed)))
        node.peers.learner.learn()  # compiled before the clock runs
        taken, right, retried, lost, corrupt, judged = [], 0, 0, 0, 0, 0
        for turn in range(count):
            if turn == count // 5:
                processes[KINDS.index("killed")].send_signal(signal.SIGKILL)
            manifest, truth = manifests[turn % TENSORS]
            if policy == "full":
                order = node.peers.choose(names, len(names))
            elif policy == "DHT only":
                order = sorted(names, key=lambda name: distance(manifest.cid, name))
            else:
                order = lot.sample(names, 5)
            started, first = time.perf_counter(), None
            for position, name in enumerate(order):
                try:
                    array, _ = await fetch_tensor(node.calls, node.peers, manifest, [name])
                except FetchError:
                    retried += 1
                    continue
                if position == 0:
                    first = time.perf_counter() - started
                corrupt += not np.array_equal(array, truth)
                break
            else:
                lost += 1
            taken.append(time.perf_counter() - started)
            if policy == "full":
                node.peers.learner.learn()
            if turn % 4 == 0:
                known, node.peers = node.peers, PeerTable(node.peers.learner)
                others = [await transfer(node, manifest, n) for n in names if n != order[0]]
                node.peers = known
                best = min(t for t in [*others, first] if t is not None)
                judged += 1
                right += first is not None and first <= 1.1 * best
        return {
            "policy": policy,
            "mean_ms": round(1e3 * float(np.mean(taken)), 1),
            "p99_ms": round(1e3 * float(np.quantile(taken, 0.99)), 1),
            "accuracy": round(right / judged, 3),
            "retried": retried,
            "lost": lost,
            "corrupt": corrupt,
        }


def distance(cid, name):
    """Of Kademlia: XOR of the digests."""
    one, other = (hashlib.sha256(text.encode()).digest() for text in (cid, name))
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")


async def cid_of(node, seed, names):
    from sedma_jax.comm._manifest import describe

    cid = describe(tensor(seed)).cid
    return await fetch_manifest(node.calls, node.peers, cid, names)


def main():
    """Every policy with fresh processes."""
    if sys.argv[1:2] == ["hold"]:
        trio.run(hold, sys.argv[2])
    logging.disable(logging.CRITICAL)  # libp2p reports the killed peer every time
    count = int(sys.argv[1]) if sys.argv[1:] else 200
    for policy in ("full", "DHT only", "random"):
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "hold", kind], stdout=subprocess.PIPE, text=True
            )
            for kind in KINDS
        ]
        try:
            addresses = [p.stdout.readline().strip() for p in processes if p.stdout]
            print(
                json.dumps(trio.run(run, policy, count, processes, addresses)), flush=True
            )
        finally:
            for process in processes:
                process.kill()
                process.wait()
    os._exit(0)


if __name__ == "__main__":
    main()
