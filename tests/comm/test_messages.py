import numpy as np
import pytest
from hypothesis import given, strategies as st

from sedma_jax.comm._rpc import wire_pb2 as wire
from sedma_jax.comm._rpc.messages import (
    PREFIX,
    MessageError,
    lengths,
    parse,
    prefix_and_header,
)
from sedma_jax.comm._tensors.manifest import (
    CHUNK,
    ManifestError,
    bytes_of,
    check_cid,
    describe,
    read_manifest,
)


def test_header_and_lengths_survive():
    header = wire.Header(method="range", meta=b"abc", deadline_ms=7)
    data = prefix_and_header(header, 2**30)
    prefix, rest = data[: PREFIX.size], data[PREFIX.size :]
    assert lengths(prefix, 2**30) == (len(rest), 2**30)
    assert parse(wire.Header, rest) == header


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ((2, 0, 0, 0), "same release"),
        ((1, 1, 0, 0), "same release"),
        ((1, 0, 16385, 0), "16384 bytes of header"),
        ((1, 0, 0, 1001), "1000 of body"),
        ((1, 0, 0, 2**63), "1000 of body"),
    ],
)
def test_prefixes_beyond_the_limits_are_refused(fields, text):
    with pytest.raises(MessageError, match=text):
        lengths(PREFIX.pack(*fields), 1000)


def test_a_header_beyond_the_limit_is_not_sent():
    with pytest.raises(MessageError, match="16384"):
        prefix_and_header(wire.Header(meta=bytes(20_000)), 0)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data):
    for kind in (wire.Header, wire.Manifest, wire.SignedStatus, wire.Keep):
        try:
            assert isinstance(parse(kind, data), kind)
        except MessageError as error:
            assert "Got" in str(error)


def manifest(**changes):
    fields = {"dtype": "float32", "shape": [70_000], "nbytes": 280_000}
    fields |= {"chunk": CHUNK, "sha256": bytes(64)}
    return wire.Manifest(**fields | changes).SerializeToString()


def test_a_manifest_names_its_content():
    array = np.arange(70_000, dtype=np.float32).reshape(700, 100)
    described = describe(array)
    assert (described.shape, described.dtype) == ((700, 100), "float32")
    assert described == read_manifest(described.raw)
    data = bytes_of(array)
    assert described.matches(0, data)
    assert described.matches(CHUNK, data[CHUNK:])
    changed = bytearray(data)
    changed[-1] ^= 1
    assert not described.matches(0, memoryview(changed))
    assert not described.matches(0, data[:1000])


def test_equal_tensors_have_one_cid_and_others_another():
    a = np.arange(6.0)
    assert describe(a).cid == describe(a.copy()).cid
    assert describe(a).cid != describe(a.reshape(2, 3)).cid
    assert describe(a).cid != describe(a.view(np.int64)).cid


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "O"},
        {"dtype": "object"},
        {"dtype": "V4"},
        {"nbytes": 279_999},
        {"shape": [70_001]},
        {"shape": [2**40, 2**40], "nbytes": 0},
        {"shape": [0], "nbytes": 0, "sha256": b""},
        {"shape": [1] * 40 + [70_000]},
        {"chunk": 1},
        {"sha256": bytes(63)},
        {"shape": [2**34], "nbytes": 2**36, "sha256": b""},
    ],
)
def test_senseless_manifests_are_refused(changes):
    assert read_manifest(manifest()).nbytes == 280_000
    with pytest.raises(ManifestError, match="Got"):
        read_manifest(manifest(**changes))


def test_arrays_that_are_no_tensors_are_refused():
    for array in (np.array([None]), np.array(["a"]), np.empty(0), np.empty(1, "V3")):
        with pytest.raises(ValueError, match="Got"):
            describe(array)


@pytest.mark.parametrize("text", ["", "bafkreiaaa", "Qm" + "a" * 44, "é", "b" * 5000])
def test_what_is_no_cid_is_refused(text):
    with pytest.raises(ValueError, match="Copy all of it"):
        check_cid(text)
