"""Jobs of a service: the journal, what is refused, and what comes back."""

import dataclasses
import json
import socket
import threading
import urllib.request
from contextlib import contextmanager
from unittest.mock import Mock

import jax
import numpy as np
import pytest
import scipy.sparse
import trio
from comm_nodes import EVERYONE, wait_until
from hypothesis import given, strategies as st

import sedma_jax as sj
from sedma_jax import comm
from sedma_jax._cli.serve import _address
from sedma_jax.comm._jobs.journal import Journal
from sedma_jax.comm._jobs.messages import JobRequest, check_id, encode_job, read_job
from sedma_jax.comm._jobs.metrics import Health
from sedma_jax.comm._jobs.operands import operands
from sedma_jax.comm._jobs.service import JobService, ServiceLimits
from sedma_jax.comm._jobs.tensor_files import write_durably
from sedma_jax.comm._jobs.worker_process import Product
from sedma_jax.comm._node.node import Node
from sedma_jax.comm._rpc.messages import MessageError
from sedma_jax.comm._tensors.manifest import describe
from sedma_jax.devices._file import device_text, named_or_own

CID = describe(np.arange(3.0)).cid
JOB = JobRequest("one", {"values": CID}, None, CID, "epiram", 7)
OWN = dataclasses.replace(
    sj.devices.EPIRAM,
    nonlinearity_ltp=0.0,
    curve_ltp=sj.kernels.ExponentialCurve(-1.0),
    cycle_noise=(1.0, 0.5),
)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("0", ["127.0.0.1"]),
        ("[::1]:0", ["[::1]"]),
        ("[::]:0", ["127.0.0.1", "[::1]"]),
        ("0.0.0.0:0", ["127.0.0.1"]),
    ],
)
def test_health_is_served_on_the_family_of_its_host(text, asked):
    if "::" in text and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    health = Health(Mock(spec=JobService, node=Mock(spec=Node)), *_address(text))
    try:
        for host in asked:
            with urllib.request.urlopen(f"http://{host}:{health.port}/healthz") as answer:
                assert answer.read() == b"ok\n"
    finally:
        health.close()


def test_a_job_survives_as_bytes():
    sparse = JobRequest(
        "a.b-c_9",
        {"data": CID, "rows": CID, "cols": CID},
        (3, 2**31 - 1),
        CID,
        "ag-asi",
        2**32 - 1,
    )
    own = dataclasses.replace(JOB, device=device_text("f", OWN))
    for job in (JOB, sparse, own):
        assert read_job(encode_job(job)) == job
    back = named_or_own(read_job(encode_job(own)).device)
    assert jax.tree.structure(back) == jax.tree.structure(OWN)
    np.testing.assert_array_equal(jax.tree.leaves(back), jax.tree.leaves(OWN))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"id": ""},
        {"id": "../x"},
        {"id": "x" * 65},
        {"id": 7},
        {"matrix": {}},
        {"matrix": {"values": CID, "shape": [1, 1]}},
        {"matrix": {"data": CID, "rows": CID, "cols": CID, "shape": [0, 1]}},
        {"matrix": {"data": CID, "rows": CID, "cols": CID, "shape": [1.0, 1]}},
        {"matrix": {"data": CID, "rows": CID, "cols": CID, "shape": [1]}},
        {"matrix": {"values": "../../etc/passwd"}},
        {"vector": None},
        {"device": "abacus"},
        {"device": []},
        {"device": {}},
        {"device": {"g_min": 1e-6, "g_max": 1e-5, "pulses_ltp": 9, "pulses_ltd": "9"}},
        {"device": {"g_min": 1.0, "g_max": 9.0, "pulses_ltp": 9, "pulses_ltd": 9}},
        {"seed": -1},
        {"seed": 2**32},
        {"seed": False},
        {"seed": 1e3},
        {"more": 1},
    ],
)
def test_what_is_no_job_is_refused(change):
    fields = json.loads(encode_job(JOB)) | change
    with pytest.raises(MessageError, match="Got"):
        read_job(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"{", b"\xff", b"[" * 4000, b" " * 5000, b'{"id":1,"id":1}'],
)
def test_bytes_that_are_no_json_are_refused(data):
    with pytest.raises(MessageError):
        read_job(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(CID),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.binary(max_size=200)
    | st.fixed_dictionaries(
        {},
        optional={
            name: JSON | st.just(json.loads(encode_job(JOB))[name])
            for name in ("version", "id", "matrix", "vector", "device", "seed")
        },
    ).map(lambda fields: json.dumps(fields).encode())
)
def test_whatever_comes_is_a_job_or_a_message_error(data):
    try:
        job = read_job(data)
    except MessageError:
        return
    # What is taken is well formed: it survives, and its id is safe as a name.
    assert read_job(encode_job(job)) == job
    assert check_id(job.id) == job.id and "/" not in job.id


def multiply(request, matrix, x):
    return np.asarray(x @ matrix.T), {"device": request.device}


class InThread:
    """Does jobs by a function in this process, as a worker does them in one of its own."""

    def __init__(self, work, tensors):
        self.work, self.tensors = work, tensors

    def __call__(self, job, settled):
        y, record = self.work(job.request, *operands(self.tensors, job.request))
        part = self.tensors.folder / f".product-{job.number}"
        write_durably(part, y)
        return Product(describe(y).cid, part, record)

    def stop(self):
        pass


@contextmanager
def served(folder, work=multiply, needs=None, **limits):
    """A service in this process: its node, and itself."""
    journal = Journal(folder)
    with comm.open_node(allowed=EVERYONE) as node:
        ended = threading.Event()

        async def start():
            limited = ServiceLimits(**limits)
            worker = lambda: InThread(work, journal.tensors)
            service = JobService(node.node, journal, worker, limited, needs)

            async def run():
                await service.run()
                ended.set()

            trio.lowlevel.spawn_system_task(run)
            return service

        service = node.call(start)
        yield node, service

        async def stop():
            service.give_up()

        node.call(stop)
        assert ended.wait(10)
    journal.close()


def test_products_come_back_and_strangers_see_nothing(tmp_path):
    rng = np.random.default_rng(0)
    A, x = rng.normal(size=(5, 4)), rng.normal(size=(2, 4))
    S = scipy.sparse.random(6, 4, 0.4, random_state=0, format="csr")
    with served(tmp_path / "s") as (node, service):
        with comm.open_jobs(node.addresses[0], key=tmp_path / "k") as client:
            assert client.submit(A, x, id="dense")["state"] in ("queued", "running", "done")
            client.submit(S, x[0], id="sparse", device=OWN)
            y, job = client.result("dense", 20)
            np.testing.assert_array_equal(y, x @ A.T)
            assert job["cid"] == describe(y).cid and job["attempts"] == 1
            y, job = client.result("sparse", 20)
            np.testing.assert_allclose(y, S @ x[0], rtol=1e-12)
            assert named_or_own(job["record"]["device"]).curve_ltp == OWN.curve_ltp
            # Handed in again it is the same job, not another.
            assert client.submit(A, x, id="dense")["finished"]
            with pytest.raises(comm.RemoteError, match="names one job"):
                client.submit(A, x, id="dense", seed=1)
            assert [job["id"] for job in client.jobs()] == ["sparse", "dense"]
            with pytest.raises(comm.RemoteError, match="Check that the vector"):
                client.submit(A, x.T)
            with pytest.raises(ValueError, match="needs real entries"):
                client.submit(A, x.astype(complex))
        with comm.open_jobs(node.addresses[0]) as other:
            assert other.jobs() == []
            with pytest.raises(comm.RemoteError, match="needs a job of this client"):
                other.status("dense")
        assert service.counts.accepted == 2 and service.counts.done == 2
        assert service.counts.refused == 2  # complex vectors never arrive


def test_limits_are_kept_and_a_failure_is_of_one_job(tmp_path):
    go, calls = threading.Event(), []

    def work(request, matrix, x):
        calls.append(request.id)
        assert go.wait(20)
        if request.id == "away" and calls.count("away") < 2:
            raise ConnectionError("the database is away")
        if request.id == "bad":
            raise ZeroDivisionError("of no class\nthat is foreseen")
        return x, {}

    A, x = np.eye(2), np.ones(2)
    with served(tmp_path / "s", work, queue=3, largest=100) as (node, service):
        with comm.open_jobs(node.addresses[0]) as client:
            for id in ("bad", "away", "good"):
                client.submit(A, x, id=id)
            with pytest.raises(comm.RemoteError, match="at most 3 jobs"):
                client.submit(A, x, id="more")
            go.set()
            with pytest.raises(RuntimeError, match="of no class that is foreseen"):
                client.result("bad", 20)
            assert client.result("good", 20)[1]["state"] == "done"
            assert client.result("away", 20)[1]["attempts"] == 2
            with pytest.raises(comm.RemoteError, match="at most 100 bytes together"):
                client.submit(np.ones((4, 4)), np.ones(4))
            go.clear()
            client.submit(A, x, id="last")
            assert wait_until(lambda: client.status("last")["state"] == "running")

            async def drain():
                service.drain()

            node.call(drain)
            with pytest.raises(comm.RemoteError, match="shutting down"):
                client.submit(A, x, id="late")
            assert client.submit(A, x, id="last")["state"] == "running"
            go.set()
            assert client.result("last", 20)[1]["state"] == "done"


def test_bodies_that_are_none_end_no_service(tmp_path):
    with served(tmp_path / "s") as (node, _):
        with comm.open_jobs(node.addresses[0]) as client:
            for method in ("job-submit", "job-status"):
                for body in (b"", b"\x00" * 300, b"{" * 5000, b'{"id": "x", "wait": 1e9}'):

                    async def ask(method=method, body=body):
                        calls = client.node.node.calls
                        return await calls.call(client.service, method, body)

                    with pytest.raises(comm.RemoteError, match="Got"):
                        client.node.call(ask)
            client.submit(np.eye(2), np.ones(2), id="x")
            assert client.result("x", 20)[1]["state"] == "done"
