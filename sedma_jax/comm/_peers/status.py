"""What peers say of themselves, signed."""

from .._libp2p.library import KeyPair, PeerID, deserialize_public_key
from .._rpc import wire_pb2 as wire
from .._rpc.messages import MessageError, parse

LARGEST_STATUS = 4096  # bytes
_DOMAIN = b"sedma-status:"  # so that a signature is valid for nothing else


def sign_status(keys: KeyPair, peer: PeerID, status: wire.Status) -> bytes:
    """A status as bytes, signed by the peer itself."""
    status.peer = peer.to_bytes()
    data = status.SerializeToString()
    return wire.SignedStatus(
        status=data,
        public_key=keys.public_key.serialize(),
        signature=keys.private_key.sign(_DOMAIN + data),
    ).SerializeToString()


def read_status(data: bytes) -> wire.Status:
    """Decode a signed status; `MessageError` for one that is forged or senseless."""
    if len(data) > LARGEST_STATUS:
        raise MessageError(
            f"`sedma_jax.comm` needs statuses of at most {LARGEST_STATUS} bytes. Got "
            f"{len(data)}. Name fewer addresses."
        )
    signed = parse(wire.SignedStatus, data)
    status = parse(wire.Status, signed.status)
    try:
        key = deserialize_public_key(signed.public_key)
        genuine = PeerID.from_pubkey(key).to_bytes() == status.peer and key.verify(
            _DOMAIN + signed.status, signed.signature
        )
    except Exception:  # of several libraries, with no common base
        genuine = False
    sensible = (
        0 <= status.idle <= 1
        and 0 <= status.load < 1e6
        and status.memory_free < 2**50
        and len(status.zone) <= 64
        and len(status.addresses) <= 8
    )
    if not (genuine and sensible):
        raise MessageError(
            "`sedma_jax.comm` needs statuses that make sense and are signed by their peer. "
            f"Got a {'senseless' if genuine else 'forged'} one. Ignore its sender."
        )
    return status
