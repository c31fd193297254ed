"""Jobs in processes of their own: what one of them does touches no other."""

import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import trio
from comm_nodes import EVERYONE, wait_until

from sedma_jax import comm
from sedma_jax._cli.job_needs import bytes_needed
from sedma_jax.comm._jobs.job_rows import Job
from sedma_jax.comm._jobs.journal import Journal
from sedma_jax.comm._jobs.messages import JobRequest, encode_job
from sedma_jax.comm._jobs.service import JobService, ServiceLimits
from sedma_jax.comm._jobs.worker_process import WorkerProcess
from sedma_jax.comm._tensors.manifest import describe

COMMAND = (sys.executable, str(Path(__file__).parents[1] / "worker_of_tests.py"))
REQUEST = JobRequest("one", {"values": "a"}, None, "b", "epiram", 7)
JOB = Job(1, "me", REQUEST, "running", 1, 0, "0" * 32, 5.0, 6.0, *[None] * 4)
A, X = np.eye(3, dtype=np.float32) * 2, np.arange(3, dtype=np.float32)


@contextmanager
def served(folder, command=COMMAND, more=None, **limits):
    """A service whose workers are processes: its node, its workers and their log."""
    journal, log = Journal(folder), folder / "log"
    log.touch()
    setup = {"log": str(log), "memory_limit": limits.get("memory")} | (more or {})
    workers = []
    with comm.open_node(allowed=EVERYONE) as node:
        ended = threading.Event()

        def worker():
            workers.append(WorkerProcess(command, journal.tensors.folder, setup))
            return workers[-1]

        async def start():
            limited = ServiceLimits(**limits)
            service = JobService(node.node, journal, worker, limited, bytes_needed)

            async def run():
                await service.run()
                ended.set()

            trio.lowlevel.spawn_system_task(run)
            return service

        service = node.call(start)
        yield node, workers, log

        async def stop():
            service.give_up()

        node.call(stop)
        assert ended.wait(20)
    journal.close()


def starts(log, id):
    return [line.split()[1] for line in log.read_text().splitlines() if f"{id} " in line]


@pytest.mark.parametrize("id", ["poison", "abort"])
def test_a_job_that_ends_its_worker_fails_alone(tmp_path, id):
    with served(tmp_path, workers=2) as (node, _, log):
        with comm.open_jobs(node.addresses[0]) as client:
            innocent = [f"good-{i}" for i in range(8)]
            for each in (id, *innocent):
                client.submit(A, X, id=each)
            for each in innocent:
                y, job = client.result(each, 60)
                np.testing.assert_array_equal(y, 2 * X)
                assert job["attempts"] == 1
            with pytest.raises(RuntimeError, match=r"ended 3 of them.*was ended by signal"):
                client.result(id, 60)
    assert len(set(starts(log, id))) == 3  # each time another process
    assert not list((tmp_path / "tensors").glob(".*"))


def test_a_job_that_wants_too_much_memory_fails_alone(tmp_path):
    with served(tmp_path, memory=2 * 10**9) as (node, _, log):
        with comm.open_jobs(node.addresses[0]) as client:
            client.submit(A, X, id="hungry")  # 8 GB, which nobody can know before
            client.submit(A, X, id="good")
            with pytest.raises(RuntimeError, match="fits in the memory of a worker"):
                client.result("hungry", 60)
            assert client.result("good", 60)[1]["attempts"] == 1
    assert len(starts(log, "hungry")) == 1  # it would want as much again


def submit_as_a_stranger_would(client, id, rows, parts, x):
    """A job as its bytes, since our own client may take long over such a matrix."""
    node = client.node
    matrix = {name: node.put(part) for name, part in parts.items()}
    request = JobRequest(id, matrix, rows and (rows, x.shape[-1]), node.put(x), "epiram", 0)

    async def ask():
        return await node.node.calls.call(
            client.service, "job-submit", encode_job(request), timeout=60
        )

    node.call(ask)


def sparse(rows, cols):
    return {"data": np.ones(len(rows), np.float32), "rows": rows, "cols": cols}


def test_a_job_that_is_known_to_be_too_large_is_refused(tmp_path):
    last, first = lambda rows: np.array([rows - 1]), np.zeros(1, int)
    places = np.random.default_rng(0).integers(0, 10**6, (2, 5000))
    ones = lambda *shape: np.ones(shape, np.float32)
    with served(tmp_path, memory=8 * 10**9) as (node, _, log):
        with comm.open_jobs(node.addresses[0]) as client:
            for id, rows, parts, x, said in (
                # A few hundred bytes each, as issued: 8.6 GB of product; 12 GB of work.
                ("a", 2**31 - 1, sparse(last(2**31 - 1), first), ones(1), "a product of"),
                ("b", 6 * 10**7, sparse(last(6 * 10**7), first), ones(1), "to 12,605 MB"),
                # 80 kB in 5,000 arrays of their own.
                ("c", 10**6, sparse(*places), ones(10**6), "fits in 8,000 MB"),
                # 80 kB and 80 kB make 1.6 GB.
                ("d", None, {"values": ones(20000, 1)}, ones(20000, 1), "a product of"),
            ):
                with pytest.raises(comm.RemoteError, match=said):
                    submit_as_a_stranger_would(client, id, rows, parts, x)
            client.submit(A, X, id="good")
            client.result("good", 60)
    assert len(starts(log, "")) == 1


def test_the_death_of_an_idle_worker_goes_unnoticed(tmp_path):
    with served(tmp_path) as (node, workers, _):
        with comm.open_jobs(node.addresses[0]) as client:
            for i in range(3):
                client.submit(A, X, id=f"good-{i}")
                assert client.result(f"good-{i}", 60)[1]["attempts"] == 1
                process = workers[0]._process
                process.kill()
                process.wait()


def test_rewards_are_settled_once_their_jobs_are_done(tmp_path):
    with served(tmp_path) as (node, _, log):
        with comm.open_jobs(node.addresses[0]) as client:
            tokens = []
            for i in range(3):
                client.submit(A, X, id=f"good-{i}")
                tokens.append(client.result(f"good-{i}", 60)[1]["record"]["token"])
    assert len(set(tokens)) == 3
    assert [line[8:] for line in log.read_text().splitlines() if "settled" in line] == (
        tokens[:2]
    )


def test_a_worker_that_does_not_start_is_no_fault_of_a_job(tmp_path):
    worker = WorkerProcess((sys.executable, "-c", "raise SystemExit(3)"), tmp_path, {})
    with pytest.raises(ConnectionError, match=r"needs a worker that starts.*ended with 3"):
        worker(JOB, [])


def test_a_worker_ends_with_its_service(tmp_path):
    with served(tmp_path) as (node, workers, log):
        with comm.open_jobs(node.addresses[0]) as client:
            client.submit(A, X, id="slow")
            assert wait_until(lambda: starts(log, "slow"), 60)
            process = workers[0]._process
            workers[0]._link.shutdown(2)  # as the kernel does when the service is killed
            assert process.wait(20) == 0


def test_what_a_job_brought_is_for_its_client_alone(tmp_path):
    secret = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)
    with served(tmp_path) as (node, _, _):
        with comm.open_jobs(node.addresses[0], key=tmp_path / "k") as client:
            client.submit(secret, X, id="mine")
            y, job = client.result("mine", 60)
            np.testing.assert_allclose(y, secret @ X, rtol=1e-6)
            np.testing.assert_array_equal(client.node.get(job["cid"]), y)
            client.submit(secret, X, id="slow")  # its inputs stay on the disk
        inputs = [describe(secret).cid, describe(X).cid]
        with comm.open_jobs(node.addresses[0], key=tmp_path / "other") as other:
            for cid in (*inputs, job["cid"]):
                with pytest.raises(comm.FetchError):
                    other.node.get(cid, timeout=30)
                with pytest.raises(comm.FetchError):
                    other.node.get_block(cid, other.service, timeout=30)
            assert list((tmp_path / "tensors").glob(f"{inputs[0]}*"))
            # Naming the tensors of somebody else does not make them one's own.
            named = describe(secret).cid

            async def ask():
                text = (
                    f'{{"version":1,"id":"theirs","matrix":{{"values":"{named}"}},'
                    f'"vector":"{describe(X).cid}","device":"epiram","seed":0}}'
                )
                calls = other.node.node.calls
                return await calls.call(other.service, "job-submit", text.encode())

            with pytest.raises(comm.RemoteError, match="needs a provider"):
                other.node.call(ask)
        with comm.open_jobs(node.addresses[0], key=tmp_path / "k") as client:
            assert client.result("mine", 60)[1]["cid"] == job["cid"]  # still its own


def test_the_worker_can_be_named_by_its_process(tmp_path):
    with served(tmp_path) as (node, workers, log):
        with comm.open_jobs(node.addresses[0]) as client:
            client.submit(A, X, id="good")
            client.result("good", 60)
        assert starts(log, "good") == [str(workers[0].pid)]
        assert int(starts(log, "good")[0]) != os.getpid()


def test_a_worker_with_few_mappings_left_gives_way_to_another(tmp_path):
    with served(tmp_path) as (node, _, log):
        with comm.open_jobs(node.addresses[0]) as client:
            for id in ("ballast", "good-0", "good-1", "good-2"):
                client.submit(A, X, id=id)
                assert client.result(id, 60)[1]["attempts"] == 1
    (filled,), (last,), (new,), (same,) = (
        starts(log, id) for id in ("ballast", "good-0", "good-1", "good-2")
    )
    # What is left is counted before each job; the process ends after the next one.
    assert filled == last != new == same


@pytest.mark.slow
def test_jobs_of_new_shapes_are_done_where_mappings_are_scarce(tmp_path):
    setup = {
        "memory": f"sqlite:///{tmp_path / 'm.db'}",
        "compilation_cache": [str(tmp_path / "c"), True],
    }
    rng = np.random.default_rng(0)
    command = (sys.executable, str(Path(__file__).parents[1] / "worker_with_ballast.py"))
    with served(tmp_path, command, setup) as (node, _, _):
        with comm.open_jobs(node.addresses[0]) as client:
            for rows in range(20, 34):
                A = rng.normal(size=(rows, rows + 3)).astype(np.float32)
                x = rng.normal(size=rows + 3).astype(np.float32)
                client.submit(A, x, id=str(rows))
                y, job = client.result(str(rows), 300)
                assert job["attempts"] == 1
                assert np.linalg.norm(y - A @ x) < 0.1 * np.linalg.norm(A @ x)


def test_a_job_with_nan_says_so(tmp_path):
    bad = A.copy()
    bad[1, 1] = np.nan
    with served(tmp_path) as (node, _, _):
        with comm.open_jobs(node.addresses[0]) as client:
            for matrix, x, told in (
                (bad, X, "finite numbers. Got nan in number 5"),
                (A, X + np.inf, "finite numbers. Got inf in number 1"),
            ):
                with pytest.raises(comm.RemoteError, match=told):
                    submit_as_a_stranger_would(client, "n", None, {"values": matrix}, x)


def test_a_full_disk_is_told_to_the_client(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with served(tmp_path) as (node, _, _):
        with comm.open_jobs(node.addresses[0]) as client:
            with monkeypatch.context() as patched:
                patched.setattr("sedma_jax.comm._jobs.tensor_files.write_durably", full)
                with pytest.raises(comm.RemoteError, match="room on its disk"):
                    client.submit(A, X, id="one")
            client.submit(A, X, id="one")
            np.testing.assert_array_equal(client.result("one", 60)[0], 2 * X)
