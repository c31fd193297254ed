"""Memories as files of JSON Lines."""

import json
import math

import pytest

import sedma_jax as sj

NAME = "0123456789abcdef0123456789abcdef"
HEADER = {
    **{"format": "sedma-memory", "version": 1, "memory": NAME},
    **{"generation": 5, "patterns": 2},
}
LINE = {
    **{"kind": "k", "workload": "w", "choice": {"a": 1}, "features": [1.0, 2.0]},
    **{"count": 2, "mean": 1.0, "m2": 0.5, "updated": 1_700_000_000_000_000},
}
OTHER = LINE | {"choice": {"a": 2}, "features": None, "count": 1, "m2": 0.0}


@pytest.fixture
def memory(tmp_path):
    with sj.memory.open(f"sqlite:///{tmp_path}/m.db") as memory:
        memory.record("k", "w", {"a": 1}, 4.0)
        yield memory


def lines(*fields):
    texts = [f if isinstance(f, str) else json.dumps(f) for f in fields]
    return "".join(text + "\n" for text in texts)


def test_what_is_exported_imports_elsewhere(url, tmp_path):
    path = tmp_path / "out.jsonl"
    with sj.memory.open("sqlite://") as memory:
        memory.record("k", "w", {"ü": [1, None]}, [1.0, 2.5], features=[0.1, 1e-7])
        memory.record("k", "w", {}, 1 / 3)
        memory.record("other", "ß", {"b": True}, -1e99)
        assert memory.export(path) == 3
        patterns = memory.patterns()
    with sj.memory.open(url) as memory:
        assert memory.import_(path) == 3
        # NaN, the spread of one reward, is one and the same object in Python.
        assert memory.patterns() == patterns
        assert memory.nearest("k", [0.1, 1e-7])[0].choice == {"ü": [1, None]}
    assert [p.name for p in tmp_path.iterdir() if ".jsonl" in p.name] == ["out.jsonl"]


def test_what_is_imported_joins_what_there_is(memory, tmp_path, save):
    assert memory.import_(save("in.jsonl", lines(HEADER, LINE, OTHER))) == 2
    joined, other = memory.recall("k", "w")
    assert (joined.count, joined.mean) == (3, 2.0)
    # Rewards of moments (2, 1.0, 0.5) are 0.5 and 1.5; with 4.0 about 2: 2.25 + 0.25 + 4.
    assert joined.spread == pytest.approx(math.sqrt(6.5 / 2), rel=1e-15)
    assert joined.features == (1.0, 2.0)
    assert (other.count, other.mean, other.features) == (1, 1.0, None)
    assert len(memory) == 2


def test_rewards_are_not_counted_twice(memory, tmp_path, save):
    path = save("in.jsonl", lines(HEADER, LINE, OTHER))
    memory.import_(path)
    with pytest.raises(ValueError, match="imported before"):
        memory.import_(path)
    memory.export(tmp_path / "own.jsonl")
    with pytest.raises(ValueError, match="this memory itself"):
        memory.import_(tmp_path / "own.jsonl")
    assert memory.recall("k", "w")[0].count == 3
    memory.import_(path, again=True)
    assert memory.recall("k", "w")[0].count == 5


def test_a_long_file_is_cut_to_the_most_valuable(tmp_path):
    path = tmp_path / "out.jsonl"
    with sj.memory.open("sqlite://") as memory:
        for i in range(10):
            memory.record("k", "w", {"i": i}, [0.0] * (1 + (7 * i) % 10))
        memory.export(path)
    with sj.memory.open("sqlite://", capacity=4) as memory:
        memory.import_(path)
        assert sorted(p.count for p in memory.patterns()) == [7, 8, 9, 10]


@pytest.mark.parametrize(
    ("content", "number", "message"),
    [
        ("", 1, "one JSON object"),
        (lines({"format": "other"}), 1, "sedma-memory"),
        (lines(HEADER | {"version": 2}), 1, "version 1"),
        (lines(HEADER | {"memory": "x"}), 1, "`memory`"),
        (lines(HEADER | {"generation": -1}), 1, "`generation`"),
        (lines(HEADER | {"patterns": True}), 1, "`patterns`"),
        (lines(HEADER, LINE), 2, "the 2 patterns"),
        (lines(HEADER, LINE, LINE), 3, "those of line 2"),
        (lines(HEADER, LINE, ""), 3, "one JSON object"),
        (lines(HEADER, LINE, json.dumps(OTHER)[:-9]), 3, "one JSON object"),
        (lines(HEADER, LINE, "[" * 60_000), 3, "one JSON object"),
        (lines(HEADER, LINE, "[]"), 3, "fields kind, workload"),
        (lines(HEADER, LINE, OTHER | {"more": 1}), 3, "no others"),
        (lines(HEADER, LINE, json.dumps(OTHER | {"mean": math.nan})), 3, "one JSON object"),
        (lines(HEADER, LINE, OTHER | {"mean": 1e101}), 3, "`mean`"),
        (lines(HEADER, LINE, OTHER | {"mean": "1"}), 3, "`mean`"),
        (lines(HEADER, LINE, OTHER | {"m2": -1.0}), 3, "`m2`"),
        (lines(HEADER, LINE, OTHER | {"m2": 1.0}), 3, "`m2`"),  # of a single reward
        (lines(HEADER, LINE, OTHER | {"count": 0}), 3, "`count`"),
        (lines(HEADER, LINE, OTHER | {"count": True}), 3, "`count`"),
        (lines(HEADER, LINE, OTHER | {"count": 1.0}), 3, "`count`"),
        (lines(HEADER, LINE, OTHER | {"updated": 10**17}), 3, "`updated`"),
        (lines(HEADER, LINE, OTHER | {"kind": 1}), 3, "`kind`"),
        (lines(HEADER, LINE, OTHER | {"workload": "a\nb"}), 3, "`workload`"),
        (lines(HEADER, LINE, OTHER | {"choice": []}), 3, "`choice`"),
        (lines(HEADER, LINE, OTHER | {"choice": {"a": "x" * 20_000}}), 3, "16,384"),
        (lines(HEADER, LINE, OTHER | {"features": [None]}), 3, "`features`"),
        (lines(HEADER, LINE, OTHER | {"features": [10**400]}), 3, "`features`"),
        (lines(HEADER, LINE, OTHER | {"features": []}), 3, "`features`"),
        (lines(HEADER, LINE, " " * 70_000), 3, "65,536 bytes"),
        (b"\xff\xfe\n", 1, "one JSON object"),
    ],
)
def test_a_bad_line_is_named_and_nothing_comes_in(memory, save, content, number, message):
    path = save("in.jsonl", content)
    before = memory.patterns()
    with pytest.raises(ValueError, match=message) as caught:
        memory.import_(path)
    text = str(caught.value)
    assert f"line {number}," in text and "\n" not in text and len(text) < 600
    assert memory.patterns() == before and len(memory) == 1
    # It did not count as imported.
    assert memory.import_(save("good.jsonl", lines(HEADER, LINE, OTHER))) == 2


def test_files_that_cannot_be_read(memory, tmp_path, save, monkeypatch):
    with pytest.raises(ValueError, match="No such file"):
        memory.import_(tmp_path / "missing")
    with pytest.raises(ValueError, match="directory"):
        memory.import_(tmp_path)
    path = save("in.jsonl", lines(HEADER, LINE, OTHER))
    monkeypatch.setattr("sedma_jax.memory._json_lines._LARGEST_FILE", 100)
    with pytest.raises(ValueError, match="at most 100 bytes"):
        memory.import_(path)
