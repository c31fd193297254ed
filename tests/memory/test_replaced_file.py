"""A database that is removed or replaced while it is open: an error, no lost write."""

import os
import sqlite3
from contextlib import closing

import pytest

import sedma_jax as sj


def record(memory, rows):
    memory.record("partition", "w", {"rows": rows}, 1.0)


def others_see(url):
    """What another process would find."""
    with sj.memory.open(url) as memory:
        return sorted(p.choice["rows"] for p in memory.recall("partition", "w"))


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/p.db"


def removed(folder):
    for file in folder.glob("p.db*"):
        file.unlink()


def replaced(folder):
    """As a restored copy replaces it: all of it, by a rename."""
    copy = folder / "copy.db"
    with (
        closing(sqlite3.connect(folder / "p.db")) as from_,
        closing(sqlite3.connect(copy)) as to,
    ):
        from_.backup(to)
    removed(folder)
    os.replace(copy, folder / "p.db")


def log_removed(folder):
    (folder / "p.db-wal").unlink()


@pytest.mark.parametrize("away", [removed, replaced, log_removed])
def test_a_write_is_refused(tmp_path, url, away):
    with sj.memory.open(url) as memory:
        record(memory, 256)
        away(tmp_path)
        for use in (lambda: record(memory, 512), lambda: memory.recall("partition", "w")):
            with pytest.raises(ConnectionError, match="removed or replaced") as refused:
                use()
            assert "\n" not in str(refused.value)
    with sj.memory.open(url) as memory:  # it works again
        record(memory, 64)
    assert 64 in others_see(url) and 512 not in others_see(url)


def test_another_database_in_use_at_the_path_is_noticed(tmp_path, url):
    with sj.memory.open(url) as memory:
        record(memory, 256)
        replaced(tmp_path)
        # Of a process that has the copy open: both files are there, and only others.
        with closing(sqlite3.connect(tmp_path / "p.db")) as other:
            other.execute("SELECT count(*) FROM sqlite_master").fetchall()
            assert (tmp_path / "p.db-wal").exists()
            with pytest.raises(ConnectionError, match="removed or replaced"):
                record(memory, 512)
    assert others_see(url) == [256]


def test_a_fallback_takes_over(tmp_path, url):
    spare = f"sqlite:///{tmp_path}/spare.db"
    with sj.memory.open(url, fallback=spare) as memory:
        removed(tmp_path)
        with pytest.warns(RuntimeWarning, match="removed or replaced"):
            record(memory, 128)
    assert others_see(spare) == [128]


def test_other_processes_and_another_folder_are_no_alarm(tmp_path, url, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with sj.memory.open("sqlite:///p.db") as memory, sj.memory.open(url) as other:
        record(memory, 1)
        monkeypatch.chdir("/")
        record(other, 2)
        record(memory, 3)
    assert others_see(url) == [1, 2, 3]


@pytest.mark.parametrize("reward", ["1.5", [1 + 2j], [None], [True, "x"], float("nan")])
def test_rewards_that_are_no_real_numbers(url, reward):
    with (
        sj.memory.open(url) as memory,
        pytest.raises(ValueError, match="needs `reward` to be a number"),
    ):
        memory.record("partition", "w", {"rows": 1}, reward)
