"""What a node learns of others stays in its memory from one run to the next."""

import logging
import time

import numpy as np
import pytest
import trio
from comm_nodes import EVERYONE, nodes, wait_until

from sedma_jax import comm
from sedma_jax._long_term import LongTermMemory
from sedma_jax.comm._node.peer_profiles import Profiles
from sedma_jax.comm._peers.table import PeerTable
from sedma_jax.comm._tensors.manifest import describe
from sedma_jax.comm._tensors.store import DAY, TensorStore, Use

long_term = pytest.importorskip("sedma_jax.memory")  # an extra


@pytest.fixture
def memory():
    with long_term.open("sqlite://") as opened:
        yield opened


def record_of(node, name):
    return next(p for p in node.peers() if p["id"] == name)


def test_a_second_run_knows_what_its_peers_are_like(tmp_path, memory):
    settings = {"key": tmp_path / "key", "status_every": 0.2, "allowed": EVERYONE}
    with nodes(1) as (other,):
        cid = other.put(np.arange(3e5))
        with comm.open_node(**settings, memory=memory) as node:
            node.connect(*other.addresses)
            node.get(cid, timeout=30)
            node.get(cid)
            # Lessons are learnt aside; nobody waits for them.
            assert wait_until(lambda: node.node.peers.learner.lessons, 30)
            name, observer = other.name, f"node {node.name}"
            assert wait_until(lambda: record_of(node, name)["memory_free"])
        learnt, seen = node.node.peers.learner.model, node.node.peers.get(name)
    (profile,) = memory.recall("peer-profile", observer)
    assert profile.choice == {"peer": name} and profile.mean == 1
    (hits,) = memory.recall("cache-hits", observer)
    assert hits.mean == 0.5  # the second time it was here

    with comm.open_node(**settings, memory=memory) as again:
        found = record_of(again, name)
        assert not found["connected"]
        for field in ("rtt_ms", "success"):
            assert found[field] == pytest.approx(getattr(seen, field))
        assert found["success"] > 0.8  # that of strangers
        assert again.status()["weights"] == pytest.approx(np.asarray(learnt.weights))
        assert not np.array_equal(learnt.weights, [1, 1, 1])
        assert again.node.store._remembered[cid].per_hour == 2

    with comm.open_node(memory=memory) as stranger:  # another observer has seen nothing
        assert stranger.peers() == []


def test_who_is_only_told_of_has_no_profile(memory):
    with nodes(2) as (middle, far):
        allowed = frozenset({middle.name})
        with comm.open_node(allowed=allowed, status_every=0.2, memory=memory) as node:
            node.connect(*middle.addresses)
            assert wait_until(lambda: far.name in {p["id"] for p in node.peers()}, 30)
            assert wait_until(lambda: node.node.peers.get(middle.name).asked, 30)
    found = memory.recall("peer-profile", "nodes without a key")
    assert [p.choice["peer"] for p in found] == [middle.name]


def test_strangers_do_not_push_out_who_is_known():
    table = PeerTable(most=3)
    table.get("friend").count_request(True)
    for i in range(10):
        table.get(f"stranger {i}").heard = time.monotonic()
    assert "friend" in {peer.name for peer in table}


class Interrupted(LongTermMemory):
    """A memory that cannot be reached at first."""

    def __init__(self, memory, failures):
        self.memory, self.failures = memory, failures

    def recall(self, *arguments):
        return self._try(self.memory.recall, *arguments)

    def record_all(self, records):
        return self._try(self.memory.record_all, records)

    def forget(self, *arguments):
        return self.memory.forget(*arguments)

    def _try(self, function, *arguments):
        self.failures -= 1
        if self.failures >= 0:
            raise ConnectionError("needs a database. Got none.")
        return function(*arguments)


def test_what_could_not_be_written_is_written_later(memory, caplog):
    caplog.set_level(logging.WARNING, "sedma_jax.comm")
    broken = Interrupted(memory, failures=3)  # recalls once, writes twice
    with comm.open_node(memory=broken, remember_every=0.05) as node:
        node.put(np.arange(3.0))
        found = lambda: memory.recall("tensor-use", "nodes without a key")
        assert wait_until(found)
        assert [p.count for p in found()] == [1]
    assert sum("not kept" in r.getMessage() for r in caplog.records) == 2
    assert sum("recalled" in r.getMessage() for r in caplog.records) == 1


def used(memory):
    found = memory.recall("tensor-use", "nodes without a key")
    return {pattern.choice["cid"] for pattern in found}


def test_what_is_remembered_has_an_end(memory):
    async def main():
        async with comm.running_node(comm.NodeSettings()) as node:
            profiles, cids = Profiles(node, memory, most=2), []
            for i in range(4):
                cids.append(await node.put(np.full(3, float(i))))
                await profiles.write()
                assert cids[-1] in used(memory)
            assert used(memory) == set(cids[-2:])

    trio.run(main)


def test_senseless_weights_are_not_taken(memory, caplog):
    features = [1, float(10**9), 1, 0]
    memory.record("peer-weights", "nodes without a key", {}, 0.0, features=features)
    with comm.open_node(memory=memory) as node:
        assert node.status()["weights"] == [1, 1, 1]
    assert "three weights" in caplog.text


def test_a_tensor_that_comes_back_counts_what_was_remembered():
    store = TensorStore(1500)
    used, fresh = (np.full(1000, i, np.uint8) for i in range(2))
    cid = describe(used).cid
    store.remember(cid, Use(8.0, 0.001, time.time() - DAY))
    entry = store.add(describe(used), used, pinned=False)
    # Half of the eight a day later, and that it was wanted now.
    assert entry.per_hour(time.monotonic()) == pytest.approx(5, rel=1e-3)
    store.add(describe(fresh), fresh, pinned=False)
    assert [name for name, _ in store] == [cid]
    ((first, count, use), (second, *_)) = sorted(store.uses(), key=lambda u: u[0] != cid)
    assert (first, count, second) == (cid, pytest.approx(1), describe(fresh).cid)
    assert use.per_hour == pytest.approx(5, rel=1e-3)
    assert list(store.uses()) == []


def test_current_loads_are_in_short_term_memory():
    with nodes(1) as (other,):
        settings = {"allowed": EVERYONE, "status_every": 0.1}
        with comm.open_node(**settings, short_term=long_term.ShortTerm()) as node:
            node.connect(*other.addresses)
            count = lambda name: int(node.short_term.summary(name).count)
            assert wait_until(lambda: count(f"load {other.name}") > 1, 30)
            assert count("load") >= count(f"load {other.name}")
            free = node.short_term.summary("memory_free").mean
            assert free == node.status()["capacity"]
