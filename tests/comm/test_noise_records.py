"""Records of Noise, against those of the library whose keys they use."""

import pytest
from noise.connection import NoiseConnection

from sedma_jax.comm._libp2p.noise_records import LARGEST_PLAIN, NoiseRecords
from sedma_jax.comm._libp2p.yamux_frames import FrameError

PLAINS = [b"", b"x", bytes(range(256)) * 7, b"\xff" * LARGEST_PLAIN]


def connected():
    """Both ends of a connection after its handshake."""
    ends = []
    for start in ("set_as_initiator", "set_as_responder"):
        end = NoiseConnection.from_name(b"Noise_NN_25519_ChaChaPoly_SHA256")
        getattr(end, start)()
        end.start_handshake()
        ends.append(end)
    one, other = ends
    other.read_message(one.write_message())
    one.read_message(other.write_message())
    return ends


def cut(records):
    """Records without their lengths."""
    found, at = [], 0
    while at < len(records):
        stop = at + 2 + int.from_bytes(records[at : at + 2], "big")
        found.append(bytes(records[at + 2 : stop]))
        at = stop
    return found


def test_the_library_opens_what_is_sealed():
    one, other = connected()
    records = NoiseRecords(one)
    for plains in (PLAINS, PLAINS[:2], PLAINS[::-1]):  # the buffer is used again
        assert [other.decrypt(r) for r in cut(records.seal(plains))] == plains


def test_what_the_library_seals_is_opened_and_counters_are_shared():
    one, other = connected()
    records = NoiseRecords(other)
    assert records.open(memoryview(one.encrypt(b"first"))) == b"first"
    assert other.decrypt(one.encrypt(b"second")) == b"second"
    assert records.open(memoryview(one.encrypt(b"third"))) == b"third"


def test_a_changed_record_is_refused_and_the_next_is_not():
    one, other = connected()
    records, sealed = NoiseRecords(other), one.encrypt(b"kept")
    for changed in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:10], b""):
        with pytest.raises(FrameError, match="decrypted"):
            records.open(memoryview(changed))
    assert records.open(memoryview(sealed)) == b"kept"
