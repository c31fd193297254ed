"""`sedma node` with two processes."""

import json
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from comm_nodes import wait_until

from sedma_jax import memory
from sedma_jax.comm._runners.metrics import NodeCollector, serve_metrics

COMMAND = [sys.executable, "-m", "sedma_jax._cli", "node"]


def sedma(*arguments, check=True):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=check
    )


@pytest.fixture
def start():
    running = []

    def run(*arguments):
        process = subprocess.Popen(
            [*COMMAND, "start", "--json", *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process, json.loads(process.stdout.readline())

    yield run
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
def test_two_nodes_exchange_an_array(start, tmp_path):
    one, two, array = tmp_path / "1", tmp_path / "2", np.arange(500_000.0)
    np.save(tmp_path / "x.npy", array)
    process, first = start("--dir", one, "--open", "--metrics", 0)
    url = f"sqlite:///{tmp_path}/memory.db"
    joining = ("--dir", two, "--join", first["addresses"][0], "--memory", url)
    joined_process, second = start(*joining)
    put = json.loads(sedma("put", "--dir", one, tmp_path / "x.npy", "--json").stdout)
    assert put["bytes"] == array.nbytes

    def joined():
        text = sedma("status", "--dir", two, "--json").stdout
        return json.loads(text)["connected"] == [first["id"]]

    assert wait_until(joined, 30)
    sedma("get", "--dir", two, put["cid"], "--out", tmp_path / "y.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), array)

    def known():
        peers = json.loads(sedma("peers", "--dir", one, "--json").stdout)["peers"]
        return [p["id"] for p in peers] == [second["id"]]

    assert wait_until(known, 30)

    again = sedma("start", "--dir", one, check=False)
    assert again.returncode == 1 and "no other node uses" in again.stderr
    bad = sedma("get", "--dir", two, "no-cid", "--out", tmp_path / "z.npy", check=False)
    assert bad.returncode == 2 and "Copy all of it" in bad.stderr
    joined_process.send_signal(signal.SIGTERM)
    assert joined_process.wait(20) == 0
    with memory.open(url) as remembered:
        (profile,) = remembered.recall("peer-profile", f"node {second['id']}")
        assert profile.choice == {"peer": first["id"]}
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not (one / "control.sock").exists()
    gone = sedma("status", "--dir", one, check=False)
    assert gone.returncode == 1 and "sedma node start" in gone.stderr


def test_metrics_are_those_of_the_node():
    from sedma_jax import comm

    with comm.open_node() as node:
        cid = node.put(np.arange(100.0))
        node.get(cid)
        found = {m.name: m for m in NodeCollector(node.node).collect()}
        assert found["sedma_cache_hits"].samples[0].value == 1
        assert found["sedma_store_bytes"].samples[0].value == 800


def test_metrics_are_served():
    from comm_nodes import nodes

    with nodes(1) as (node,):
        stop, port = serve_metrics(node.node, 0)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert b"sedma_tensors 0.0" in answer.read()
        stop()
