import json
import math
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from tolerances import gamma

import sedma_jax as sj


def test_a_pattern_comes_back_as_it_was(opened):
    choice = {"rows": 256, "cuts": [1, 2.5, None], "name": "ü\x00", "deep": {"b": True}}
    before = datetime.now(UTC)
    opened.record("partition", "dense", choice, 0.25, features=[1, 2.5])
    (pattern,) = opened.recall("partition", "dense")
    assert (pattern.kind, pattern.workload) == ("partition", "dense")
    assert pattern.choice == choice
    assert pattern.features == (1.0, 2.5)
    assert (pattern.count, pattern.mean) == (1, 0.25)
    assert math.isnan(pattern.spread)
    assert timedelta(-1) < pattern.updated - before < timedelta(seconds=60)
    assert opened.recall("partition", "sparse") == opened.recall("λ", "dense") == []
    pattern.choice["rows"] = 1  # a copy
    assert opened.recall("partition", "dense")[0].choice == choice


def test_moments_of_rewards_in_parts_are_those_of_all(opened):
    rewards = np.random.default_rng(0).normal(1e3, 1.0, 40)
    opened.record("k", "w", {"a": 1, "b": 2}, rewards[:7])
    for reward in rewards[7:12]:
        opened.record("k", "w", {"b": 2, "a": 1}, float(reward))
    opened.record("k", "w", {"a": 1, "b": 2}, rewards[12:].tolist())
    (pattern,) = opened.recall("k", "w")
    assert pattern.count == 40
    # Chan et al. (1983): the error grows with the number of merges and the condition
    # number, the ratio of root mean square and spread.
    condition = np.sqrt(np.mean(rewards**2)) / rewards.std()
    bound = gamma(60, np.float64)
    assert abs(pattern.mean - rewards.mean()) <= bound * 1e3
    spread = rewards.std(ddof=1)
    assert abs(pattern.spread - spread) <= bound * condition * spread


def test_rewards_of_one_name_count_once_until_it_is_settled(opened, url):
    name = "0123456789abcdef" * 2
    add = lambda memory: memory.record_all([("k", "w", {}, 1.0, None)], once=name)
    add(opened)
    with sj.memory.open(url) as other:
        add(other)  # as a process would that was killed before it heard of the first
    assert opened.recall("k", "w")[0].count == 1
    opened.settle([name, name[::-1]])
    add(opened)
    assert opened.recall("k", "w")[0].count == 2
    with pytest.raises(ValueError, match="32 letters and digits"):
        opened.record_all([], once="short")


def test_best_mean_first(opened):
    for reward, tile in ((1.0, 64), (3.0, 128), (2.0, 256)):
        opened.record("k", "w", {"tile": tile}, reward)
    assert [p.choice["tile"] for p in opened.recall("k", "w")] == [128, 256, 64]
    assert len(opened) == 3
    assert opened.patterns() == opened.patterns("k", "w") == opened.recall("k", "w")
    assert opened.patterns("other") == []


def test_the_last_features_given_count(opened):
    opened.record("k", "w", {}, 1.0, features=[1.0, 2.0])
    opened.record("k", "w", {}, 1.0)
    assert opened.recall("k", "w")[0].features == (1.0, 2.0)
    opened.record("k", "w", {}, 1.0, features=[3.0])
    assert opened.recall("k", "w")[0].features == (3.0,)
    assert opened.nearest("k", [1.0, 2.0]) == []
    assert len(opened.nearest("k", [1.0])) == 1


def test_nearest_follows_every_change(opened):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 4)) * [1, 10, 1e-3, 1e4]

    def expected(alive, query, k):
        table = points[alive]
        distance = np.linalg.norm((table - query) / table.std(axis=0), axis=1)
        order = np.argsort(distance)[:k]
        return [alive[i] for i in order], distance[order]

    def check(alive, query, k):
        found = opened.nearest("k", query, k)
        names, distances = expected(alive, query, k)
        assert [p.choice["i"] for p in found] == names
        # Single precision, but for what cancels in the difference.
        np.testing.assert_allclose([p.distance for p in found], distances, rtol=1e-4)

    alive = list(range(20))
    opened.record("other", "w", {"i": -1}, 1.0, features=points[0])
    for i in alive:
        opened.record("k", f"w{i}", {"i": i}, 1.0, features=points[i])
    check(alive, points[25], 3)
    for i in range(20, 30):
        opened.record("k", f"w{i}", {"i": i}, 1.0, features=points[i])
    alive = list(range(30))
    check(alive, points[25], 30)
    opened.forget("k", "w25")
    alive.remove(25)
    check(alive, points[25], 8)
    assert len(opened.nearest("k", points[25], 1000)) == 29


def test_the_least_valuable_pattern_makes_room(tmp_path):
    with sj.memory.open(f"sqlite:///{tmp_path}/m.db", capacity=3) as memory:
        memory.record("k", "often", {}, [1.0] * 9)
        memory.record("k", "once", {}, 100.0)
        memory.record("k", "twice", {}, [1.0, 1.0])
        memory.record("k", "new", {}, 1.0)
        assert {p.workload for p in memory.patterns()} == {"often", "twice", "new"}
        assert memory.recall("k", "once") == []
        memory.record("k", "newer", {}, 1.0)
        assert {p.workload for p in memory.patterns()} == {"often", "twice", "newer"}
        assert len(memory) == 3
    with sj.memory.open("sqlite://", capacity=1) as memory:
        memory.record("k", "often", {}, [1.0] * 9)
        memory.record("k", "new", {}, 1.0)  # though it is worth less
        assert [p.workload for p in memory.patterns()] == ["new"]


def test_a_use_weighs_half_after_a_half_life(opened, monkeypatch):
    from sedma_jax.memory import _memory

    now = _memory._now()
    half_life = 30 * 86400 * 10**6

    def record_at(workload, count, halves):
        when = now - int(halves * half_life)
        monkeypatch.setattr(_memory, "_now", lambda: when)
        opened.record("k", workload, {}, [0.0] * count)

    # Sums of 2^-halves: 4, 3, 2.5, 2.
    record_at("a", 64, 4)
    record_at("b", 3, 0)
    record_at("c", 16, 3)
    record_at("c", 1, 1)
    record_at("d", 8, 2)
    for keep, left in ((3, "abc"), (2, "ab"), (1, "a")):
        assert opened.prune(keep) == 1
        assert {p.workload for p in opened.patterns()} == set(left)
    assert opened.prune(1) == 0


def test_forget(opened):
    for workload in "ab":
        for i in range(3):
            opened.record("k", workload, {"i": i}, 1.0)
    assert opened.forget("k", "a", {"i": 1}) == 1
    assert [p.choice["i"] for p in opened.recall("k", "a")] == [0, 2]
    assert opened.forget("k", "a") == 2
    assert opened.forget("other") == 0
    assert len(opened) == 3
    assert opened.forget("k") == 3
    assert len(opened) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "w", {}, 1.0), "`kind`"),
        (("k" * 201, "w", {}, 1.0), "`kind`"),
        (("k", "a\nb", {}, 1.0), "`workload`"),
        (("k", "\ud800", {}, 1.0), "`workload`"),
        (("k", "w", {"a": {1: 2}}, 1.0), "`choice`"),
        (("k", "w", {"a": math.nan}, 1.0), "`choice`"),
        (("k", "w", {"a": np.ones(2)}, 1.0), "`choice`"),
        (("k", "w", {"a": "x" * 2**14}, 1.0), "16,384 bytes"),
        (("k", "w", {}, math.nan), "`reward`"),
        (("k", "w", {}, math.inf), "`reward`"),
        (("k", "w", {}, 10**400), "`reward`"),
        (("k", "w", {}, []), "`reward`"),
        (("k", "w", {}, [1.0, 1e101]), "`reward`"),
        (("k", "w", {}, 1.0, []), "`features`"),
        (("k", "w", {}, 1.0, [math.nan]), "`features`"),
        (("k", "w", {}, 1.0, [1.0] * 257), "`features`"),
    ],
)
def test_what_cannot_be_remembered(tmp_path, arguments, message):
    *given, features = (*arguments, None)[:5]
    with sj.memory.open(f"sqlite:///{tmp_path}/m.db") as memory:
        with pytest.raises(ValueError, match=message):
            memory.record(*given, features=features)
        assert len(memory) == 0


def test_a_deep_choice_is_refused_in_one_line(tmp_path):
    deep = {}
    for _ in range(10_000):
        deep = {"a": deep}
    with sj.memory.open("sqlite://") as memory:
        with pytest.raises(ValueError, match="`choice`"):
            memory.record("k", "w", deep, 1.0)


@pytest.mark.parametrize(
    "option", [{"cache": -1}, {"capacity": 0}, {"staleness": math.nan}]
)
def test_bad_options(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        sj.memory.open("sqlite://", **option)


def test_threads_share_a_memory(tmp_path):
    with sj.memory.open(f"sqlite:///{tmp_path}/m.db") as memory:

        def work():
            for i in range(50):
                memory.record("k", f"w{i % 5}", {}, 1.0)
                memory.recall("k", f"w{i % 5}")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [p.count for p in memory.patterns()] == [40] * 5
        assert [memory.recall("k", f"w{i}")[0].count for i in range(5)] == [40] * 5


def test_a_closed_memory_says_so(tmp_path):
    memory = sj.memory.open(f"sqlite:///{tmp_path}/m.db")
    memory.close()
    with pytest.raises(ValueError, match="Open it again"):
        memory.recall("k", "w")
    memory.close()
    assert [path.name for path in tmp_path.iterdir()] == ["m.db"]


def test_default_url(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("SEDMA_MEMORY", raising=False)
    url = sj.memory.default_url()
    with sj.memory.open(url) as memory:
        memory.record("k", "w", {}, 1.0)
    assert list(tmp_path.rglob("*.db"))
    monkeypatch.setenv("SEDMA_MEMORY", "sqlite:///elsewhere.db")
    assert sj.memory.default_url() == "sqlite:///elsewhere.db"


def test_only_asking_for_the_memory_imports_it(tmp_path):
    import subprocess
    import sys

    code = """
import sys, json
sys.modules["sqlalchemy"] = None
import sedma_jax
assert "memory" in dir(sedma_jax)
try:
    sedma_jax.memory
except ImportError as error:
    print(json.dumps(str(error)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install '.[memory]'" in json.loads(done.stdout), done.stderr
