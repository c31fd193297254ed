"""Peers behind NAT, in network namespaces: how they meet, and how long it takes.

    python -m bench.comm.nat [--trials 20] [--out bench/results/nat.json]

Needs root, iproute2, nftables and procps. There are a relay with a public address and two
nodes, each behind a NAT of its own, which keeps the port (cone) or takes another for every
destination (symmetric) and drops what it does not expect. The links have no delay. `sedma
node` runs at the relay and behind one NAT; nodes behind the other dial it through the
relay, fetch a tensor at once, and wait until their connection is direct. Every trial is a
new node with a new port.
"""

import argparse
import json
import logging
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import trio

from bench.shared import ROOT, module_command, parser_of, write_json
from sedma_jax import comm
from sedma_jax.comm._libp2p.library import PeerID

# Private: which connections are relayed shows below the public calls; `control_client` is
# what `sedma node` talks to a running node by.
from sedma_jax.comm._libp2p.sockets import is_relayed
from sedma_jax.comm._runners import control_client

SEDMA = [sys.executable, "-m", "sedma_jax._cli", "node"]
RELAY = "11.22.33.1"  # in a public range, since documentation ranges count as private
RULES = """
table ip nat {{
  chain source {{ type nat hook postrouting priority srcnat; oifname "wan" {masquerade}; }}
}}
table ip filter {{
  chain through {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "lan" oifname "wan" accept
  }}
  chain here {{
    type filter hook input priority filter; policy accept;
    iifname "wan" ct state new drop
  }}
}}
"""
NATS = {"cone": "masquerade", "symmetric": "masquerade random,fully-random"}


def run(*command, text=None):
    """The output of a command; an error shows what it said."""
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def missing_tools() -> list[str]:
    """Packages of Debian that the laboratory needs and that are not installed."""
    tools = {"ip": "iproute2", "nft": "nftables", "sysctl": "procps"}
    return [package for tool, package in tools.items() if shutil.which(tool) is None]


def why_not() -> str | None:
    """Why namespaces with NAT cannot be made here; None if they can.

    Missing tools are not among the reasons; `missing_tools` names them.
    """
    try:
        run("unshare", "--net", "true")
        if not missing_tools():
            with laboratory("cone", "symmetric"):
                pass
    except OSError as error:
        return f"network namespaces with NAT cannot be made here: {error}"
    return None


@contextmanager
def laboratory(nat_a: str, nat_b: str):
    """Make namespaces `relay`, `a` and `b`, the last two behind NATs; their full names."""
    names = {
        role: f"sedma-{os.getpid()}-{role}"
        for role in ("net", "relay", "na", "nb", "a", "b")
    }
    try:
        for name in names.values():
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", names["net"], "link", "add", "hub", "type", "bridge")
        run("ip", "-n", names["net"], "link", "set", "hub", "up")
        for role, address in (("relay", RELAY), ("na", "11.22.33.2"), ("nb", "11.22.33.3")):
            cable(names[role], "wan", f"{address}/24", names["net"], f"to-{role}")
            run("ip", "-n", names["net"], "link", "set", f"to-{role}", "master", "hub")
            run("ip", "-n", names["net"], "link", "set", f"to-{role}", "up")
        for role, nat, kind, net in (
            ("a", "na", nat_a, "192.168.1"),
            ("b", "nb", nat_b, "192.168.2"),
        ):
            cable(names[role], "eth", f"{net}.2/24", names[nat], "lan")
            run("ip", "-n", names[nat], "addr", "add", f"{net}.1/24", "dev", "lan")
            run("ip", "-n", names[nat], "link", "set", "lan", "up")
            run("ip", "-n", names[role], "route", "add", "default", "via", f"{net}.1")
            within = ("ip", "netns", "exec", names[nat])
            run(*within, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            run(*within, "nft", "-f", "-", text=RULES.format(masquerade=NATS[kind]))
        yield names
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def cable(name, device, address, other, other_device):
    """Connect two namespaces; the first end gets an address."""
    far = ("peer", "name", other_device, "netns", other)
    run("ip", "link", "add", device, "netns", name, "type", "veth", *far)
    run("ip", "-n", name, "addr", "add", address, "dev", device)
    run("ip", "-n", name, "link", "set", device, "up")


@contextmanager
def process(name, *command, stdin=False):
    """Run a process in a namespace until the block ends."""
    started = subprocess.Popen(
        ["ip", "netns", "exec", name, *map(str, command)],
        cwd=ROOT,
        stdin=subprocess.PIPE if stdin else None,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        started.stdout.close()


@contextmanager
def node(name, folder, *options):
    """Run `sedma node start` in a namespace; the status of the node at its start."""
    start = [*SEDMA, "start", "--dir", folder, "--open", "--json", *options]
    with process(name, *start) as started:
        yield json.loads(started.stdout.readline())


def status(folder):
    """The present status of the node of a folder."""
    return control_client.ask(folder, "status")


def until(condition, seconds):
    """Wait until `condition` returns something true; what it returned, and the seconds."""
    started = time.perf_counter()
    while not (result := condition()) and time.perf_counter() - started < seconds:
        time.sleep(0.02)
    return result, time.perf_counter() - started


@contextmanager
def relay_and_target(names, folder):
    """Run the relay, and a node behind NAT b that it makes reachable; their addresses."""
    listen = f"/ip4/{RELAY}/tcp/4001"
    with ExitStack() as stack:
        relay = stack.enter_context(
            node(names["relay"], folder / "relay", "--relay", "--listen", listen)
        )
        at = next(a for a in relay["addresses"] if RELAY in a)
        behind = ("--listen", "/ip4/192.168.2.2/tcp/4001", "--via-relay", at)
        stack.enter_context(node(names["b"], folder / "b", *behind))

        def circuit():
            return [a for a in status(folder / "b")["addresses"] if "p2p-circuit" in a]

        found, _ = until(circuit, 60)
        if not found:
            raise TimeoutError("the node behind NAT got no place at the relay in 60 s")
        yield at, found[0]


def trials(nat_a: str, nat_b: str, count: int, patience: float) -> dict:
    """Meet `count` times; what the dialling node saw, and what the dialled one counted."""
    with tempfile.TemporaryDirectory() as text, laboratory(nat_a, nat_b) as names:
        folder = Path(text)
        with relay_and_target(names, folder) as (relay, target):
            cid = control_client.put(folder / "b", np.arange(2.0**20))
            given = ("--dial", relay, target, cid, count, patience)
            dial = module_command("bench.comm.nat", *given)
            with process(names["a"], *dial) as dialling:
                seen = [json.loads(line) for line in dialling.stdout]
                if dialling.wait() or len(seen) != count:
                    raise RuntimeError(f"needs {count} trials. Got {len(seen)}.")
            told = status(folder / "b")
    return {
        "trials": seen,
        "punched": told["punched"],
        "not_punched": told["not_punched"],
        "reachable": told["reachable"],
    }


def meet(nat_a: str, nat_b: str) -> float:
    """Seconds until a node that knows the relay alone is connected to the other."""
    with tempfile.TemporaryDirectory() as text, laboratory(nat_a, nat_b) as names:
        folder = Path(text)
        with relay_and_target(names, folder) as (relay, target):
            other = target.rpartition("/")[2]
            behind = ("--listen", "/ip4/192.168.1.2/tcp/4001", "--via-relay", relay)
            with node(names["a"], folder / "a", *behind):
                found, seconds = until(
                    lambda: other in status(folder / "a")["connected"], 60
                )
    if not found:
        raise TimeoutError("the nodes did not meet at the relay in 60 s")
    return seconds


async def fetch_anew(node, cid):
    """Fetch a tensor by its CID from others, even if it is here."""
    return await node.fetch(cid, [])


def dial(relay, target, cid, count, patience):
    """Dial from inside the namespace, and print one line of JSON per trial."""
    logging.disable(logging.CRITICAL)
    peer = PeerID.from_string(target.rpartition("/")[2])
    for trial in range(count):
        settings = comm.NodeSettings(
            listen=(f"/ip4/192.168.1.2/tcp/{4100 + trial}",),
            allowed=frozenset({comm.EVERYONE}),
            bootstrap=(relay,),
        )
        with comm.open_node(settings) as mine, ThreadPoolExecutor(1) as watcher:
            network = mine.node.host.get_network()

            def direct(network=network):
                return not all(map(is_relayed, network.get_connections(peer)))

            until(lambda mine=mine: mine.status()["connected"], 30)
            learner = mine.node.peers.learner  # compiles once per node
            learner.record(np.zeros(3), 1, 1)
            mine.call(trio.to_thread.run_sync, learner.learn)
            started = time.perf_counter()
            mine.connect(target)
            seen = {"connected_s": time.perf_counter() - started}
            seen["relayed_at_first"] = not direct()
            waiting = watcher.submit(until, direct, patience)
            array = mine.get(cid, timeout=60)
            seen["first_tensor_s"] = time.perf_counter() - started
            seen["direct"], seconds = waiting.result()
            seen["direct_s"] = seen["connected_s"] + seconds if seen["direct"] else None
            seen["by"] = [
                str(address)
                for connection in network.get_connections(peer)
                if not is_relayed(connection)
                for address in connection.get_transport_addresses()
            ]
            # Fetch it again, over the connection there is now.
            started = time.perf_counter()
            again = mine.call(fetch_anew, mine.node, cid, timeout=60)
            seen["MB_per_s"] = array.nbytes / 1e6 / (time.perf_counter() - started)
            seen["equal"] = bool((array == again).all() and array[-1] == len(array) - 1)
            print(json.dumps(seen), flush=True)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dial", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dial:
        relay, target, cid, count, patience = options.dial
        dial(relay, target, cid, int(count), float(patience))
        return
    if reason := why_not():
        sys.exit(f"nat.py: {reason}")
    if missing := missing_tools():
        sys.exit(f"nat.py: needs other programs. Run: apt-get install {' '.join(missing)}")
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), "libp2p": version("libp2p")},
        "meet_s": meet("cone", "cone"),
        "cases": {},
    }
    for nat_a, nat_b, count in (
        ("cone", "cone", options.trials),
        ("symmetric", "cone", 3),
        ("cone", "symmetric", 3),
        ("symmetric", "symmetric", 3),
    ):
        found = trials(nat_a, nat_b, count, 15.0)
        result["cases"][f"{nat_a}/{nat_b}"] = found
        direct = [t["direct_s"] for t in found["trials"] if t["direct"]]
        median = {
            key: statistics.median(t[key] for t in found["trials"])
            for key in ("connected_s", "first_tensor_s", "MB_per_s")
        }
        print(
            f"{nat_a}/{nat_b}: direct {len(direct)} of {count}"
            + (f" after {statistics.median(direct):.2f} s" if direct else "")
            + f"; connected {median['connected_s']:.2f} s, first tensor of 8 MiB "
            f"{median['first_tensor_s']:.2f} s, then {median['MB_per_s']:.0f} MB/s",
            flush=True,
        )
    if options.out:
        write_json(options.out, result)


if __name__ == "__main__":
    main()
