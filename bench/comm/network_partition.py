"""A zone is cut off: which requests for tensors are still answered, on both sides.

    python -m bench.comm.network_partition [--seeds 10] [--results DIR]

Needs root and iproute2. Six nodes of this package, each a process in a network namespace,
two in each of three zones, share one bridge. A seed draws 24 tensors of 64 KiB, of which
each node holds four, and their popularity (Zipf). Every node asks for ten; then a zone,
drawn too, is moved to another bridge, and every node asks for eight from the same
distribution. Function kept is the share of these that arrives, verified, within 5 s.
Afterwards the zone is moved back; the network has healed when all nodes are connected to
all again. The nodes do this by themselves.

- full: two copies of a tensor in different zones, and fetched tensors stay cached.
- no zones: two copies, anywhere.
- no replicas: one copy, and the cache, as in a plain content-addressed network.
- neither: one copy, and no room for a cache.
"""

import json
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np

from bench.comm.nat import cable, process, run
from bench.shared import machine, module_command, parser_of, write_json
from sedma_jax.comm import EVERYONE, FetchError, open_node

# Private: an emptied store stands for a new node, which would have to connect anew.
from sedma_jax.comm._tensors.store import TensorStore

NODES, ZONES, TENSORS, SIZE = 6, 3, 24, 2**16
BEFORE, DURING = 10, 8  # requests per node
PATIENCE = 5.0  # seconds
ROOM = 2**28
ARMS = {  # copies, whether zones are known, bytes of memory
    "full": (2, True, ROOM),
    "no zones": (2, False, ROOM),
    "no replicas": (1, True, ROOM),
    "neither": (1, True, TENSORS // NODES * SIZE),
}


def serve(arm, number, bootstrap):
    """Be a node that follows commands on stdin."""
    replicas, zoned, capacity = ARMS[arm]
    with open_node(
        listen=(f"/ip4/10.77.0.{number + 1}/tcp/4001",),
        allowed=frozenset({EVERYONE}),
        bootstrap=tuple(bootstrap),
        replicas=replicas,
        capacity=capacity,
        zone=f"zone {number % ZONES}" if zoned else "",
        status_every=1.0,
    ) as node:
        say({"address": node.addresses[0]})
        for line in sys.stdin:
            what, *given = json.loads(line)
            if what == "put":
                say([node.put(tensor(seed)) for seed in given])
            elif what == "get":
                say([fetched(node, cid) for cid in given])
            elif what == "connected":
                say(len(node.status()["connected"]))
            else:
                node.node.store = node.node.tiers.store = TensorStore(capacity)
                say("forgotten")


def say(value):
    print(json.dumps(value), flush=True)


def tensor(seed):
    return np.random.default_rng(seed).integers(0, 255, SIZE, np.uint8)


def fetched(node, cid):
    """Seconds until a tensor arrived, or None."""
    start = time.perf_counter()
    try:
        node.get(cid, timeout=PATIENCE)
    except (FetchError, TimeoutError, OSError, RuntimeError):
        return None
    return time.perf_counter() - start


@contextmanager
def network(tag):
    """Make namespaces: one with two bridges, and one per node on the first; their names."""
    tag = f"sedma-{os.getpid()}-{tag}"
    names = [f"{tag}-{k}" for k in range(NODES)]
    net = f"{tag}-net"
    try:
        for name in [net, *names]:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        for bridge in ("whole", "cut"):
            run("ip", "-n", net, "link", "add", bridge, "type", "bridge")
            run("ip", "-n", net, "link", "set", bridge, "up")
        for k, name in enumerate(names):
            cable(name, "eth", f"10.77.0.{k + 1}/24", net, f"to-{k}")
            run("ip", "-n", net, "link", "set", f"to-{k}", "master", "whole")
            run("ip", "-n", net, "link", "set", f"to-{k}", "up")
        yield net, names
    finally:
        for name in [net, *names]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Nodes:
    """The nodes of one arm; a call sends each its command, to all at once."""

    def __init__(self, processes):
        self.processes, self.pool = processes, ThreadPoolExecutor(NODES)

    def __call__(self, *commands):
        def one(process, command):
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        return list(self.pool.map(one, self.processes, commands))

    def until_connected(self, seconds=60.0):
        """Seconds until all nodes are connected to all, or None."""
        start = time.perf_counter()
        while (now := time.perf_counter() - start) < seconds:
            if min(self(*[["connected"]] * NODES)) == NODES - 1:
                return now
            time.sleep(0.2)
        return None


def trial(ask, net, seed):
    """Figures of one cut."""
    draw = np.random.default_rng(seed)
    ask(*[["forget"]] * NODES)
    each = TENSORS // NODES
    seeds = (1000 * seed + np.arange(TENSORS)).reshape(NODES, each).tolist()
    cids = np.concatenate(ask(*[["put", *s] for s in seeds])).tolist()
    popular = 1 / (1 + draw.permutation(TENSORS))
    popular /= popular.sum()

    def requests(count):
        drawn = draw.choice(TENSORS, (NODES, count), p=popular)
        return ask(*[["get", *[cids[k] for k in row]] for row in drawn])

    before = requests(BEFORE)
    zone = int(draw.integers(ZONES))
    cut = [k for k in range(NODES) if k % ZONES == zone]
    for k in cut:
        run("ip", "-n", net, "link", "set", f"to-{k}", "master", "cut")
    try:
        during = requests(DURING)
    finally:
        for k in cut:
            run("ip", "-n", net, "link", "set", f"to-{k}", "master", "whole")
    healed = ask.until_connected()
    share = lambda rows: float(np.mean([s is not None for row in rows for s in row]))
    return {
        "before": share(before),
        "kept": share(during),
        "kept_small_side": share([during[k] for k in cut]),
        "seconds": float(np.mean([s for row in during for s in row if s is not None])),
        "healed_s": 60.0 if healed is None else healed,
    }


def arm(name, seeds):
    """Figures of one arm, a list over seeds."""
    with ExitStack() as stack:
        net, names = stack.enter_context(network(list(ARMS).index(name)))
        processes, addresses = [], []
        for number, namespace in enumerate(names):
            given = ("serve", name, number, *addresses)
            command = module_command("bench.comm.network_partition", *given)
            processes.append(stack.enter_context(process(namespace, *command, stdin=True)))
            addresses.append(json.loads(processes[-1].stdout.readline())["address"])
        ask = Nodes(processes)
        if ask.until_connected() is None:
            raise TimeoutError("the six nodes did not meet in 60 s")
        rows = []
        trial(ask, net, seeds)  # compiles the choice among nodes
        for seed in range(seeds):
            rows.append(trial(ask, net, seed))
            print(name, seed, rows[-1], flush=True)
    return {of: [row[of] for row in rows] for of in rows[0]}


def main():
    """Cut a zone off in every arm, and write `network_partition.json`."""
    if sys.argv[1:2] == ["serve"]:
        logging.disable(logging.CRITICAL)  # nodes report whom they cannot reach
        return serve(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    parser = parser_of(__doc__, seeds=10, results=True)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    record = {"machine": machine(), "seeds": options.seeds}
    try:
        run("unshare", "--net", "true")
    except OSError as error:
        record["skipped"] = f"network namespaces cannot be made here: {error}"
        print(record["skipped"])
    else:
        record["figures"] = {}
        with ThreadPoolExecutor(2) as pool:  # they mostly wait
            tasks = {name: pool.submit(arm, name, options.seeds) for name in options.arms}
            for name, task in tasks.items():
                record["figures"][name] = task.result()
    write_json(options.results / "network_partition.json", record)


if __name__ == "__main__":
    main()
