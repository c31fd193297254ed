"""Any array to a peer or a service: what they decode are the numbers, or one line."""

import dataclasses
import inspect
import json

import numpy as np
import pytest
import scipy.sparse as sp
from any_array import DENSE, SHAPES, fractions, given_arrays, one_line
from hypothesis import given

from sedma_jax.comm import open_node
from sedma_jax.comm._jobs.client import JobClient
from sedma_jax.comm._jobs.journal import JobRefused, Journal
from sedma_jax.comm._jobs.messages import JobRequest, read_job
from sedma_jax.comm._jobs.service import operands
from sedma_jax.comm._runners.process import open_node_process
from sedma_jax.comm._tensors.manifest import bytes_of, describe, tensor_of

# The shape checks of the test session know arrays, nodes and journals alone.
bytes_of, operands = inspect.unwrap(bytes_of), inspect.unwrap(operands)
FOREIGN = np.arange(6, dtype=">i4").reshape(2, 3)


@given(array=given_arrays(containers=DENSE))
def test_what_a_peer_decodes(array):
    try:
        tensor = tensor_of(array.value)
        manifest = describe(tensor)
    except ValueError as error:
        assert one_line(error), error
        plain = array.numbers is not None and array.plain.dtype.kind in "biuf"
        assert not plain or array.plain.dtype == "g"
        return
    # A peer has the manifest and the bytes, nothing else.
    sent = np.frombuffer(bytes_of(array.value), manifest.dtype).reshape(manifest.shape)
    if array.numbers is not None:
        assert np.array_equal(fractions(sent), array.numbers)
    elif array.plain.dtype.kind != "c":
        assert np.array_equal(sent, array.plain, equal_nan=True)  # NaN and infinity
    else:
        assert np.array_equal(sent, array.plain)
    assert manifest.cid == describe(sent.copy()).cid


class Kept:
    """A node and a journal in one: what is put can be loaded."""

    def __init__(self):
        self.tensors = {}

    def put(self, array):
        manifest = describe(array)
        raw = bytes(bytes_of(array))
        self.tensors[manifest.cid] = np.frombuffer(raw, manifest.dtype).reshape(
            manifest.shape
        )
        return manifest.cid

    def load(self, cid):
        return self.tensors[cid]


class Client(JobClient):
    """A client whose service takes every job."""

    def __init__(self):
        self.node, self.service = Kept(), "service"

    def _ask(self, method, body, timeout):
        self.request = read_job(body)
        return {}


@given(array=given_arrays(shapes=SHAPES[1:3]))
def test_what_a_service_computes_with(array):
    client = Client()
    try:
        client.submit(array.value, [1, 2, 3, 4, 5])
        matrix, x = operands(client.node, client.request)
    except ValueError as error:
        assert one_line(error), error
        zeros = array.numbers is not None and not array.numbers.any()
        assert array.plain.ndim != 2 or not array.fits("f8") or zeros
        return
    held = matrix.toarray() if sp.issparse(matrix) else matrix
    assert np.array_equal(fractions(held), array.numbers)
    assert x.tolist() == [1, 2, 3, 4, 5]


def test_nodes_hold_the_native_array():
    with open_node() as node, open_node_process() as process:
        cid = node.put(FOREIGN)
        assert cid == node.put(FOREIGN.astype("=i4")) == process.put(FOREIGN)
        assert node.get(cid).tolist() == process.get(cid).tolist() == FOREIGN.tolist()
        for each in (node, process):
            with pytest.raises(ValueError, match="1 masked"):
                each.put(np.ma.masked_equal(FOREIGN, 3))


def test_the_control_client_sends_native_bytes(tmp_path, monkeypatch):
    from sedma_jax.comm._runners import control_client

    sent = {}

    class Call:
        async def send(self, piece):
            sent["bytes"] = sent.get("bytes", b"") + bytes(piece)

        async def receive(self):
            return b"cid"

    class Command:
        def __init__(self, folder, method, body=b"", meta=b"", timeout=0.0):
            sent["meta"] = json.loads(meta)

        async def __aenter__(self):
            return Call()

        async def __aexit__(self, *_):
            return None

    monkeypatch.setattr(control_client, "_command", Command)
    control_client.put(tmp_path, FOREIGN)
    decoded = np.frombuffer(sent["bytes"], sent["meta"]["dtype"])
    assert decoded.reshape(sent["meta"]["shape"]).tolist() == FOREIGN.tolist()


def test_a_journal_that_was_removed_takes_no_job(tmp_path):
    journal = Journal(tmp_path)
    cid = describe(FOREIGN).cid
    request = JobRequest(
        id="a", matrix={"values": cid}, shape=None, vector=cid, device="epiram", seed=0
    )
    try:
        journal.accept("peer", request, 5)
        (tmp_path / "jobs.db").unlink()
        for again in (request, dataclasses.replace(request, id="b")):
            with pytest.raises(JobRefused, match="removed or replaced"):
                journal.accept("peer", again, 5)
    finally:
        journal.close()
