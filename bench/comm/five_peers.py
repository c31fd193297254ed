"""Two hundred transfers from five peers: one killed, one lying, one slow.

    python -m bench.comm.five_peers [--transfers 200] [--runs 5] [--out DIR]

Every peer is a process and has every tensor (1 MiB). After a fifth of the transfers one is
killed with signal 9; one sends wrong bytes from the start, one waits 50 ms before each
answer. The client asks one provider for each tensor, and another if that fails: chosen by
score and learnt weights (full), by XOR distance alone (DHT only), or by lot (random). All
policies get the same tensors in the same order, and ask unconnected peers last.

A choice counts as right when its peer was within 10 % of the best time that any peer had
for that tensor; all of them are asked afterwards, outside the latency. Every transfer is
judged. Writes the summary, `five_peers.json`, and every attempt, `five_peers_trace.json`,
which `network.py` fits its parameters to.
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
from functools import partial
from pathlib import Path

import numpy as np
import trio

from bench.shared import RESULTS, ROOT, module_command, parser_of, write_json
from sedma_jax.comm import EVERYONE, FetchError, NodeSettings, running_node
from sedma_jax.comm._peers.table import PeerTable

# Private: the node itself chooses among peers, while this bench asks one that it names.
from sedma_jax.comm._tensors.fetch import fetch_manifest, fetch_tensor
from sedma_jax.comm._tensors.manifest import describe

OPEN = {"allowed": frozenset({EVERYONE}), "status_every": 0.5}
KINDS = ["good", "good", "killed", "lying", "slow"]
POLICIES = ("full", "DHT only", "random")
TENSORS = 8


def tensor(seed):
    return np.random.default_rng(seed).integers(0, 255, 2**20, np.uint8)


async def hold(kind):
    async with running_node(NodeSettings(**OPEN)) as node:
        serve = node.methods._methods["range"]  # what a peer answers by, to be spoilt

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


async def attempt(node, manifest, name, truth=None):
    """Seconds with one peer, and whether it sent the tensor, whose bytes are compared."""
    started = time.perf_counter()
    try:
        array, _ = await fetch_tensor(node.calls, node.peers, manifest, [name])
    except FetchError:
        return time.perf_counter() - started, False
    seconds = time.perf_counter() - started
    if truth is not None and not np.array_equal(array, truth):
        raise AssertionError("a tensor that is not what was put")
    return seconds, True


async def run(policy, count, seed, processes, addresses):
    """Every turn's attempts and the time of each peer; the XOR order of each tensor."""
    lot = random.Random(seed)
    async with running_node(NodeSettings(**OPEN)) as node:
        names = [await node.connect(address) for address in addresses]
        await trio.sleep(2)  # statuses
        manifests = []
        for each in range(TENSORS):
            manifests.append((await cid_of(node, each, names), tensor(each)))
        node.peers.learner.learn()  # compiled before the clock runs
        routes = [
            sorted(names, key=partial(distance, manifest.cid)) for manifest, _ in manifests
        ]
        turns = []
        for turn in range(count):
            if turn == count // 5:
                processes[KINDS.index("killed")].send_signal(signal.SIGKILL)
            manifest, truth = manifests[turn % TENSORS]
            if policy == "full":
                order = node.peers.choose(names, len(names))
            elif policy == "DHT only":
                order = list(routes[turn % TENSORS])
            else:
                order = lot.sample(names, 5)
            connected = node.connected()
            order.sort(key=lambda name: name not in connected)
            attempts, whole, started = {}, None, time.perf_counter()
            for name in order:
                attempts[name] = await attempt(node, manifest, name, truth)
                if attempts[name][1]:
                    whole = time.perf_counter() - started
                    break
            if policy == "full":
                node.peers.learner.learn()
            # The client must learn nothing from asking everybody.
            known, node.peers = node.peers, PeerTable(node.peers.learner)
            node.peers.learner.record = lambda *_: None
            others = [n for n in names if n not in attempts]
            asked = {name: await attempt(node, manifest, name) for name in others}
            del node.peers.learner.record
            node.peers = known
            turns.append(
                {
                    "seconds": whole,
                    "order": [names.index(name) for name in attempts],
                    "peers": [(attempts | asked)[name] for name in names],
                }
            )
        return turns, [[names.index(name) for name in route] for route in routes]


def right(turn):
    """Whether the peer that was asked first was within 10 % of the best."""
    seconds, sent = turn["peers"][turn["order"][0]]
    best = min((s for s, ok in turn["peers"] if ok), default=None)
    return bool(sent and seconds <= 1.1 * best)


def summary(policy, runs):
    """Figures of one policy over its runs."""
    turns = [turn for run in runs for turn in run]
    taken = [turn["seconds"] for turn in turns if turn["seconds"] is not None]
    each = [float(np.mean([right(turn) for turn in run])) for run in runs]
    return {
        "policy": policy,
        "mean_ms": round(1e3 * float(np.mean(taken)), 1),
        "mean_ms_of_runs": [
            round(1e3 * float(np.mean([t["seconds"] for t in run if t["seconds"]])), 1)
            for run in runs
        ],
        "p99_ms": round(1e3 * float(np.quantile(taken, 0.99)), 1),
        "accuracy": round(float(np.mean(each)), 3),
        "accuracy_of_runs": [round(share, 3) for share in each],
        "retried": sum(len(turn["order"]) - 1 for turn in turns),
        "lost": sum(turn["seconds"] is None for turn in turns),
        "transfers": len(turns),
    }


def distance(cid, name):
    """Kademlia's distance, the XOR of the digests."""
    one, other = (hashlib.sha256(text.encode()).digest() for text in (cid, name))
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")


async def cid_of(node, seed, names):
    cid = describe(tensor(seed)).cid
    return await fetch_manifest(node.calls, node.peers, cid, names)


def measured(policy, count, seed):
    """One run with fresh processes."""
    command = lambda kind: module_command("bench.comm.five_peers", "hold", kind)
    processes = [
        subprocess.Popen(command(kind), stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for kind in KINDS
    ]
    try:
        addresses = [p.stdout.readline().strip() for p in processes if p.stdout]
        return trio.run(run, policy, count, seed, processes, addresses)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def compact(turn):
    """Peers asked, time of the turn, and of each peer, in ms and negative if it failed."""
    peers = [round(1e3 * (s if ok else -s), 2) for s, ok in turn["peers"]]
    whole = None if turn["seconds"] is None else round(1e3 * turn["seconds"], 2)
    return [turn["order"], whole, peers]


def main():
    """Run all policies, interleaved so that a busy minute spoils none of them alone."""
    if sys.argv[1:2] == ["hold"]:
        trio.run(hold, sys.argv[2])
    logging.disable(logging.CRITICAL)  # libp2p reports the killed peer every time
    parser = parser_of(__doc__)
    parser.add_argument("--transfers", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = {policy: [] for policy in POLICIES}
    routes = {policy: [] for policy in POLICIES}
    for seed in range(options.runs):
        for policy, runs in found.items():
            turns, route = measured(policy, options.transfers, seed)
            runs.append(turns)
            routes[policy].append(route)
            print(json.dumps(summary(policy, runs[-1:])), flush=True)
    load = round(os.getloadavg()[1], 1)
    record = {
        "load_of_machine": load,
        "cores": os.cpu_count(),
        "corrupt": 0,  # `attempt` compares every tensor, and ends the run at the first
        "policies": [summary(policy, runs) for policy, runs in found.items()],
    }
    write_json(options.out / "five_peers.json", record)
    runs = {
        name: [[compact(t) for t in run] for run in runs] for name, runs in found.items()
    }
    trace = {
        "kinds": KINDS,
        "killed_at": options.transfers // 5,
        "policies": runs,
        "routes": routes,
    }
    text = json.dumps(trace, separators=(",", ":"))
    (options.out / "five_peers_trace.json").write_text(text + "\n")
    print(json.dumps(record, indent=1))
    os._exit(0)


if __name__ == "__main__":
    main()
