"""Two processes at one memory: nothing lost, nothing doubled, nothing out of date."""

import math

import pytest

import sedma_jax as sj

OPEN = "memory = sj.memory.open({url!r}, redis={redis!r})"


@pytest.fixture(params=["database", "with Redis"])
def shared(request):
    """URL of a Redis in front of the database, or None."""
    return None if request.param == "database" else request.getfixturevalue("redis_url")


def test_a_thousand_patterns_from_each_of_two_processes(url, others):
    # Half of each thousand are the same patterns. Both find no database and make it.
    work = """
memory = sj.memory.open({url!r})
for i in range(500):
    memory.record("common", f"w{{i % 10}}", {{"i": i}}, {who} + i, features=[i, {who}])
    memory.record("own", "w", {{"i": i, "who": {who}}}, {who} * i)
answer = len(memory)
memory.close()
"""
    for who, process in enumerate(others):
        process.start(work.format(url=url, who=who))
    assert max(process.finish() for process in others) == 1500
    with sj.memory.open(url) as memory:
        assert len(memory) == 1500
        common, own = memory.patterns("common"), memory.patterns("own")
    assert sorted(p.choice["i"] for p in common) == list(range(500))
    for pattern in common:  # rewards i and i + 1
        assert pattern.count == 2
        assert pattern.mean == pattern.choice["i"] + 0.5
        assert pattern.spread == pytest.approx(math.sqrt(0.5), rel=1e-12)
    assert len(own) == 1000
    for pattern in own:
        assert pattern.count == 1
        assert pattern.mean == pattern.choice["i"] * pattern.choice["who"]


def test_a_full_memory_stays_full_under_two_writers(url, others):
    work = """
memory = sj.memory.open({url!r}, capacity=20)
for i in range(60):
    memory.record("k", "w", {{"i": i, "who": {who}}}, 1.0)
answer = len(memory)
memory.close()
"""
    for who, process in enumerate(others):
        process.start(work.format(url=url, who=who))
    assert all(process.finish() <= 20 for process in others)
    with sj.memory.open(url) as memory:
        assert len(memory) == len(memory.patterns()) == 20


def test_a_lookup_sees_what_another_process_committed(url, others, shared):
    writer = others[0]
    with sj.memory.open(url, redis=shared) as memory:
        writer.run(OPEN.format(url=url, redis=shared))
        for count in range(1, 11):
            writer.run('memory.record("k", "w", {}, 1.0, features=[1.0])')
            for _ in range(3):  # from the database, then from what is kept
                assert [p.count for p in memory.recall("k", "w")] == [count]
                assert [p.count for p in memory.nearest("k", [1.0])] == [count]
            # What this process writes, the other one sees.
            memory.record("k", "mine", {}, 1.0)
            seen = writer.run('answer = [p.count for p in memory.recall("k", "mine")]')
            assert seen == [count]
        writer.run('memory.forget("k", "w")')
        assert memory.recall("k", "w") == []
        assert [p.workload for p in memory.patterns("k")] == ["mine"]
        assert memory.nearest("k", [1.0]) == []
        writer.run("memory.close()")


def test_staleness_bounds_how_old_a_lookup_may_be(url, others, monkeypatch):
    writer = others[0]
    clock = [0.0]
    monkeypatch.setattr("sedma_jax.memory._store.time.monotonic", lambda: clock[0])
    with sj.memory.open(url, staleness=5.0) as memory:
        memory.record("k", "w", {}, 1.0)
        assert memory.recall("k", "w")[0].count == 1
        writer.run(OPEN.format(url=url, redis=None))
        writer.run('memory.record("k", "w", {}, 1.0); memory.close()')
        clock[0] = 4.9
        assert memory.recall("k", "w")[0].count == 1
        clock[0] = 5.1
        assert memory.recall("k", "w")[0].count == 2
        memory.record("k", "w", {}, 1.0)
        assert memory.recall("k", "w")[0].count == 3


KILLED = """
memory = sj.memory.open({url!r})
memory.record("k", "w", {{}}, 1.0)
from sedma_jax.memory import _statements as statements
def write_and_die(connection):
    row = connection.execute(statements.select(*statements._ROW)).one()
    new = statements.Row(*row)
    statements.write(connection, [new, new._replace(digest="0" * 64, workload="x")], 10)
    os.kill(os.getpid(), 9)
memory._store.write(write_and_die)
"""


def test_a_process_killed_in_mid_write_leaves_what_it_had_committed(url, other):
    other.start(KILLED.format(url=url))
    assert other.wait() == -9
    with sj.memory.open(url) as memory:
        assert [p.count for p in memory.patterns()] == [1]
        assert len(memory) == 1
        memory.record("k", "w", {}, 1.0)  # no lock is left
        assert [p.count for p in memory.recall("k", "w")] == [2]


def test_a_process_killed_at_any_time_loses_no_acknowledged_record(url, other):
    work = """
import sys
memory = sj.memory.open({url!r})
while True:
    memory.record("k", "w", {{}}, 1.0)
    print("recorded", flush=True)
"""
    other.start(work.format(url=url))
    for _ in range(100):
        assert other._process.stdout.readline() == "recorded\n"
    other._process.kill()
    acknowledged = 100 + other._process.stdout.read().count("recorded\n")
    with sj.memory.open(url) as memory:
        # The last one may have been committed and not yet told.
        assert memory.recall("k", "w")[0].count - acknowledged in (0, 1)
        assert len(memory) == 1


def test_a_forked_process_is_told_to_open_its_own(tmp_path, monkeypatch):
    with sj.memory.open(f"sqlite:///{tmp_path}/m.db") as memory:
        monkeypatch.setattr("sedma_jax.memory._connection.os.getpid", lambda: -1)
        with pytest.raises(RuntimeError, match="forked"):
            memory.record("k", "w", {}, 1.0)
        monkeypatch.undo()
