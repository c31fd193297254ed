"""The journal of a service: what survives, what is refused, what is set apart."""

import sqlite3

import numpy as np
import pytest

from sedma_jax.comm._jobs.journal import JobRefused, Journal
from sedma_jax.comm._jobs.messages import JobRequest, encode_job
from sedma_jax.comm._jobs.tensor_files import TensorFiles
from sedma_jax.comm._tensors.manifest import describe

CID = describe(np.arange(3.0)).cid
VERSION_1 = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    peer TEXT NOT NULL, id TEXT NOT NULL, request BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    accepted REAL NOT NULL, started REAL, finished REAL,
    cid TEXT, record TEXT, error TEXT,
    UNIQUE (peer, id)
);
CREATE INDEX jobs_by_state ON jobs (state, number);
PRAGMA user_version = 1;
"""
JOB = JobRequest("one", {"values": CID}, None, CID, "epiram", 7)


@pytest.fixture
def journal(tmp_path):
    opened = Journal(tmp_path, keep=3)
    yield opened
    opened.close()


def again(journal, folder, **options):
    journal.close()
    return Journal(folder, **options)


def another(id):
    return JobRequest(id, {"values": CID}, None, CID, "epiram", 7)


def test_what_was_accepted_is_there_after_reopening(journal, tmp_path):
    job, new = journal.accept("me", JOB, 10)
    assert new and job.state == "queued"
    same, new = journal.accept("me", JOB, 10)
    assert not new and same.number == job.number
    other, new = journal.accept("you", JOB, 10)  # ids are of each peer
    assert new and other.number != job.number
    claimed = journal.claim()
    assert claimed.number == job.number and claimed.attempts == 1
    journal = again(journal, tmp_path)
    assert journal.counts()["queued"] == 2  # what ran is queued again
    assert journal.claim().attempts == 2
    assert journal.finish(claimed, cid=CID, record={"a": 1.5})
    assert not journal.finish(claimed, error="late")  # once
    journal = again(journal, tmp_path)
    done = journal.find("me", "one")
    assert (done.state, done.cid, done.record, done.error) == (
        "done",
        CID,
        {"a": 1.5},
        None,
    )
    journal.close()


def test_deaths_of_the_service_are_no_fault_of_its_jobs(journal, tmp_path):
    journal.accept("me", JOB, 10)
    for attempt in range(1, 31):
        job = journal.claim()
        assert (job.attempts, job.blame) == (attempt, 0)
        journal = again(journal, tmp_path)
    journal.close()


def test_a_job_that_ended_a_worker_holds_up_no_other(journal):
    for id in ("poison", "b", "c"):
        journal.accept("me", another(id), 10)
    claimed = journal.claim()
    assert claimed.request.id == "poison"
    journal.release(claimed, blameless=False)
    assert [journal.claim().request.id for _ in range(3)] == ["b", "c", "poison"]


def test_a_journal_of_version_1_is_taken_over(tmp_path):
    (tmp_path / "tensors").mkdir()
    with sqlite3.connect(tmp_path / "jobs.db") as data:
        data.executescript(VERSION_1)
        data.execute(
            "INSERT INTO jobs (peer, id, request, state, attempts, accepted) "
            "VALUES ('me', 'one', ?, 'running', 2, 5.0)",
            (encode_job(JOB),),
        )
    data.close()
    journal = Journal(tmp_path)
    job = journal.find("me", "one")
    assert (job.state, job.attempts, job.blame, len(job.token)) == ("queued", 2, 0, 32)
    journal.close()


def test_a_damaged_database_is_refused_in_one_line(journal, tmp_path):
    for i in range(50):
        journal.accept("me", another(str(i)), 100)
    journal.close()
    path = tmp_path / "jobs.db"
    whole = path.read_bytes()
    for content in (b"no database at all", whole[:5000], whole[:4096] + bytes(4096)):
        path.write_bytes(content)
        with pytest.raises((ValueError, OSError), match="`sedma serve` needs a journal"):
            Journal(tmp_path)
        assert path.read_bytes() == content  # nothing is lost


@pytest.mark.parametrize(
    "edit",
    [
        "request = 'nonsense'",
        "request = NULL || 'x'",
        "attempts = 'many'",
        "accepted = 'noon'",
        "accepted = 9e999",
        "state = 'done', cid = '../../etc/passwd'",
        "record = '[1, 2'",
        "record = '7'",
        "token = x'00ff'",
    ],
)
def test_rows_that_were_edited_are_set_apart(journal, tmp_path, edit):
    for id in ("edited", "whole"):
        journal.accept("me", another(id), 10)
    journal.close()
    with sqlite3.connect(tmp_path / "jobs.db") as data:
        try:
            data.execute(f"UPDATE jobs SET {edit} WHERE id = 'edited'")
        except sqlite3.IntegrityError:
            pytest.skip("the database itself refuses it")
    data.close()
    journal = Journal(tmp_path)
    assert [job.request.id for job in journal.jobs("me")] == ["whole"]
    assert journal.claim().request.id == "whole" and journal.claim() is None
    journal.close()
    with sqlite3.connect(tmp_path / "jobs.db") as data:
        assert data.execute("SELECT id FROM damaged").fetchall() == [("edited",)]
    data.close()


def test_a_blameless_release_is_no_attempt(journal):
    journal.accept("me", JOB, 10)
    journal.release(journal.claim(), blameless=True)
    assert journal.claim().attempts == 1


def test_limits_and_ids_that_are_taken(journal):
    journal.accept("me", JOB, 1)
    assert not journal.accept("me", JOB, 1)[1]  # known: takes no room
    with pytest.raises(JobRefused, match="at most 1 jobs"):
        journal.accept("me", another("two"), 1)
    with pytest.raises(JobRefused, match="names one job"):
        journal.accept("me", JobRequest("one", {"values": CID}, None, CID, "epiram", 8), 9)


def test_a_folder_belongs_to_one_service(journal, tmp_path):
    with pytest.raises(OSError, match="belongs to one service"):
        Journal(tmp_path)


def test_a_journal_that_does_not_open_is_not_left_open(tmp_path, monkeypatch):
    def fails(_):
        raise OSError("no such disk")

    with monkeypatch.context() as patched:
        patched.setattr(TensorFiles, "remove_unfinished", fails)
        with pytest.raises(OSError, match="no such disk") as caught:
            Journal(tmp_path)
    Journal(tmp_path).close()  # nobody else has it open, though the error holds the first
    assert caught.value.__traceback__


def test_tensors_go_with_their_jobs_and_are_verified(journal, tmp_path):
    arrays = [np.arange(3.0), *(np.full(2, float(i)) for i in range(5))]
    cids = [describe(array).cid for array in arrays]
    tensors = journal.tensors
    for cid, array in zip(cids, arrays, strict=True):
        tensors.save(cid, array)
    journal.hold(cids[1:])
    for i in range(5):
        journal.accept("me", another(str(i)), 10)
    for i in range(5):
        assert tensors.has(CID)  # of a job that waits
        journal.finish(journal.claim(), cid=cids[i + 1], record={})
    assert not tensors.has(CID)
    journal.let_go(cids[1:])
    journal.collect()
    # The three jobs that are kept, and their products.
    assert [job.request.id for job in journal.jobs("me")] == ["4", "3", "2"]
    assert [tensors.has(cid) for cid in cids] == [False] * 3 + [True] * 3
    np.testing.assert_array_equal(tensors.load(cids[4]), arrays[4])
    np.save(tmp_path / "tensors" / f"{cids[4]}.npy", np.zeros(2))
    with pytest.raises(ValueError, match="Got another content"):
        tensors.load(cids[4])
