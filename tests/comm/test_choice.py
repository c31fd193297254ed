"""The peer table, learnt weights, the store and the keystore; no network."""

import os
import stat
import threading

import numpy as np
import optax
import pytest
import scipy.optimize

from sedma_jax.comm import MessageError, WeightLearner
from sedma_jax.comm._libp2p.keystore import load_or_create
from sedma_jax.comm._libp2p.library import PeerID, new_ed25519_keys
from sedma_jax.comm._peers.status import read_status, sign_status
from sedma_jax.comm._peers.table import EXILE, FRESH, PeerTable
from sedma_jax.comm._rpc import wire_pb2 as wire
from sedma_jax.comm._tensors.manifest import describe
from sedma_jax.comm._tensors.store import TensorStore


def transfers(learner, rng, term, count):
    """Outcomes that one term alone decides, as the learner sees them."""
    for _ in range(count):
        terms = rng.uniform(0, 2, 3).astype(np.float32)
        rate = 1 / (1 + np.exp(-4 * (terms[term] - 1)))
        learner.record(terms, rng.binomial(8, rate), 8)


def test_weights_follow_what_decides_and_what_decides_next():
    rng, learner = np.random.default_rng(5), WeightLearner(optax.adam(0.05))
    for term in (1, 2):  # latency first, free memory later
        transfers(learner, rng, term, 100)
        for _ in range(40):
            learner.learn()
        weights = np.asarray(learner.model.weights)
        assert weights.argmax() == term
        assert weights[term] > 3 * max(np.delete(weights, term))
        assert (weights >= 0).all() and (weights <= 100).all()


def test_one_step_of_plain_descent_is_equation_8():
    learner = WeightLearner(optax.sgd(0.01), window=4)
    terms = np.array([[0.5, 1, 2], [1, 0.1, 0.3]], np.float32)
    for row, completed in zip(terms, (3, 1), strict=True):
        learner.record(row, completed, 4)
    weights, bias = np.ones(3), 0.0
    for _ in range(25):
        residual = [3, 1] - 4 / (1 + np.exp(-(terms @ weights + bias)))
        weights = np.clip(weights + 0.01 * residual @ terms / 8, 0, 100)
        bias += 0.01 * residual.sum() / 8
    learner.learn()
    # 25 steps in single precision, some ten operations each.
    np.testing.assert_allclose(learner.model.weights, weights, rtol=250 * 2**-24)


def test_what_tells_all_failures_apart_has_the_weight_of_the_prior():
    learner, terms = WeightLearner(window=40), np.zeros((40, 3), np.float32)
    terms[:, 1] = np.linspace(0, 2, 40)
    came = (terms[:, 1] > 1).astype(float)  # without a prior the weight has no end
    for row, completed in zip(terms, came, strict=True):
        learner.record(row, completed, 1)
    for _ in range(300):
        learner.learn()

    def loss(parameters):
        odds = terms[:, 1] * parameters[0] + parameters[1]
        likelihood = np.mean(came * odds - np.logaddexp(0, odds))
        return parameters @ parameters * 0.001 / 2 - likelihood

    weight, bias = scipy.optimize.minimize(loss, [1, 0]).x
    np.testing.assert_allclose(learner.model.weights, [0, weight, 0], atol=0.02)
    np.testing.assert_allclose(learner.model.bias, bias, atol=0.02)


def test_learners_share_what_is_compiled_and_compiling_is_no_lesson():
    traced, base = [], optax.sgd(0.01)

    def update(*arguments):
        traced.append(1)
        return base.update(*arguments)

    optimiser = optax.GradientTransformation(base.init, update)
    table = PeerTable(WeightLearner(optimiser))
    transfers(table.learner, np.random.default_rng(0), 1, 5)
    table.compile()
    assert np.array_equal(table.learner.model.weights, [1, 1, 1])
    assert table.learner.lessons == 0
    count = len(traced)
    for learner in (table.learner, WeightLearner(optimiser)):
        transfers(learner, np.random.default_rng(0), 1, 5)
        learner.learn()
        assert learner.lessons == 1
        assert not np.array_equal(learner.model.weights, [1, 1, 1])
    assert len(traced) == count > 0


@pytest.mark.parametrize("outcome", [(3, 2), (-1, 2), (np.nan, 2), (1, np.inf)])
def test_outcomes_that_cannot_be_are_refused(outcome):
    with pytest.raises(ValueError, match="0 <= completed <= attempted"):
        WeightLearner().record(np.ones(3), *outcome)


def signed(keys, **fields):
    peer = PeerID.from_pubkey(keys.public_key)
    status = wire.Status(**{"sequence": 1, "idle": 0.5} | fields)
    return sign_status(keys, peer, status), str(peer)


def test_a_status_is_taken_once_and_in_order():
    keys, table = new_ed25519_keys(), PeerTable()
    data, name = signed(keys, sequence=5, memory_free=7)
    assert table.take_status(data).name == name
    assert table.take_status(data) is None
    assert table.take_status(signed(keys, sequence=4)[0]) is None
    assert table.get(name).memory_free == 7


def test_a_peer_whose_clock_was_set_back_is_heard_again():
    keys, table = new_ed25519_keys(), PeerTable()
    _, name = signed(keys)
    table.take_status(signed(keys, sequence=2**50)[0])
    table.get(name).heard -= FRESH + 1
    assert table.take_status(signed(keys, sequence=3)[0]).sequence == 3


def test_forged_and_senseless_statuses_are_refused():
    keys, others = new_ed25519_keys(), new_ed25519_keys()
    data, _ = signed(keys)
    theirs = wire.SignedStatus.FromString(data)
    theirs.public_key = others.public_key.serialize()
    changed = wire.SignedStatus.FromString(data)
    changed.status += wire.Status(memory_free=1).SerializeToString()
    for forged in (theirs, changed, wire.SignedStatus()):
        with pytest.raises(MessageError, match="forged"):
            read_status(forged.SerializeToString())
    for fields in ({"idle": 2}, {"idle": float("nan")}, {"memory_free": 2**60}):
        with pytest.raises(MessageError, match="senseless"):
            read_status(signed(keys, **fields)[0])
    with pytest.raises(MessageError, match="at most"):
        read_status(bytes(5000))


def test_liars_are_demoted_then_left_out():
    table = PeerTable()
    names = ["honest", "liar"]
    for name in names:
        table.get(name).memory_free = 10**9
    table.get("liar").rtt_ms = 1.0
    assert table.choose(names, 2) == ["liar", "honest"]
    for _ in range(2):
        table.strike("liar")
    assert table.choose(names, 2) == ["honest"]


def test_a_peer_that_is_slow_with_ranges_only_is_as_slow_as_those():
    table = PeerTable()
    for name, seconds in (("slow", 0.06), ("quick", 0.005)):
        table.get(name).rtt_ms = 1.0
        table.get(name).measure_range(seconds)
    assert table.choose(["slow", "quick"], 2) == ["quick", "slow"]
    table.get("untried").rtt_ms = 1.0
    assert table.choose(["slow", "quick", "untried"], 1) == ["untried"]
    table.get("slow").ranged -= FRESH + 1
    assert table.get("slow").latency_ms == 1.0  # it may have recovered


def test_replicas_go_to_zones_that_differ():
    table = PeerTable()
    for i, zone in enumerate("aabb"):
        table.get(f"p{i}").zone = zone
        table.get(f"p{i}").rtt_ms = 1.0 + i
    assert table.choose_diverse([f"p{i}" for i in range(4)], 2, []) == ["p0", "p2"]
    assert table.choose_diverse(["p0", "p1", "p3"], 2, ["p2"]) == ["p0", "p1"]


def tensor(seed, count=1000):
    array = np.random.default_rng(seed).integers(0, 255, count, np.uint8)
    return describe(array), array


def test_the_store_stays_within_its_bytes_and_keeps_what_is_used():
    store = TensorStore(3500)
    pinned = tensor(0)
    store.add(*pinned, pinned=True)
    first, second, third = tensor(1), tensor(2), tensor(3)
    store.add(*first, pinned=False)
    store.add(*second, pinned=False)
    store.get(second[0].cid)
    store.get(second[0].cid)
    store.get(first[0].cid)
    store.get(first[0].cid)
    store.get(first[0].cid)
    store.add(*third, pinned=False)
    assert store.used <= 3500
    assert {cid for cid, _ in store} == {t[0].cid for t in (pinned, first, second)}
    assert (store.hits, store.misses, store.evictions) == (5, 0, 1)
    assert store.get(third[0].cid) is None


def test_what_cannot_stay_is_refused_and_evicts_nothing():
    store = TensorStore(1500)
    kept = tensor(0)
    store.add(*kept, pinned=False)
    store.add(*tensor(1, 5000), pinned=False)
    assert store.peek(kept[0].cid) is not None
    with pytest.raises(MemoryError, match="Raise the capacity"):
        store.add(*tensor(1, 5000), pinned=True)


def test_the_key_is_its_owners_and_the_same_for_all(tmp_path):
    path, found = tmp_path / "state" / "key", []

    def load():
        found.append(load_or_create(path).public_key.serialize())

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["key"]


def test_keys_that_others_read_or_that_are_none_are_refused(tmp_path):
    path = tmp_path / "key"
    load_or_create(path)
    path.chmod(0o640)
    with pytest.raises(PermissionError, match="chmod 600"):
        load_or_create(path)
    for content in (b"", b"nonsense", bytes(10_000)):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ValueError, match="private key"):
            load_or_create(path)


def test_exile_ends():
    table = PeerTable()
    for _ in range(2):
        table.strike("p")
    assert not table.usable("p")
    table.get("p").exiled_until -= EXILE
    assert table.usable("p")
