"""The private key of a node, in a file that only its owner can read."""

import hashlib
import logging
import os
import stat
import tempfile
from pathlib import Path

from ..._files.read_files import check_input
from ..._files.whole_files import replacing
from .library import KeyPair, PeerID, deserialize_private_key, new_ed25519_keys

log = logging.getLogger("sedma_jax.comm")

LARGEST_KEY = 4096  # bytes
BARE_KEY = 36  # bytes of a serialised Ed25519 key
_MARK = b"sha2-256"  # between the key and its digest


def load_or_create(path: Path) -> KeyPair:
    """The keys in `path`, generated and written on first use.

    The file appears complete or not at all. Two processes that create it at the same time
    end up with the same key.

    **Raises:** `PermissionError` if others may read the file, `ValueError` if it holds no
    key.
    """
    if not path.exists():
        _create(path)
    check_input(path, "`sedma_jax.comm.open_node`, as its key,")
    rights = path.stat().st_mode
    if stat.S_IMODE(rights) & 0o077:
        raise PermissionError(
            f"`sedma_jax.comm.open_node` needs a key that only its owner can read. Got "
            f"{path} with mode {stat.S_IMODE(rights):04o}. Run `chmod 600 {path}`, or "
            "delete the file to become a new peer."
        )
    with path.open("rb") as file:
        data = file.read(LARGEST_KEY + 1)
    if len(data) == BARE_KEY:
        log.warning(
            "the key in %s has no digest, as those of earlier releases: damage would make "
            "it another identity. Run `sedma node id --rewrite %s`.",
            *(path, path),
        )
    try:
        private = deserialize_private_key(_checked(data))
        return KeyPair(private, private.get_public_key())
    except Exception as error:  # of several libraries, with no common base
        raise ValueError(
            f"`sedma_jax.comm.open_node` needs a libp2p private key in {path}. Got "
            f"{len(data)} bytes that are none. Restore the file from a backup, or delete "
            "it to become a new peer."
        ) from error


def add_digest(path: Path) -> None:
    """Write the key in a file again, with the digest that earlier releases left out.

    The identity stays. Errors as of `load_or_create`.
    """
    keys = load_or_create(path)
    with replacing(path) as part:
        part.write_bytes(_as_file(keys))
        part.chmod(0o600)


def _as_file(keys: KeyPair) -> bytes:
    key = keys.private_key.serialize()
    return key + _MARK + hashlib.sha256(key).digest()


def key_id(path: Path) -> str:
    """The id of the peer whose key is in `path`; the key is generated on first use.

    It is the Ed25519 public key in the text form of libp2p.

    **Raises:** `PermissionError` if others may read the file, `ValueError` if it holds no
    key.

    **Example:**

        >>> from pathlib import Path
        >>> name = sj.comm.key_id(Path("node.key"))
        >>> with sj.comm.open_node(key=Path("node.key")) as node:
        ...     print(node.name == name, name[:8])
        True 12D3KooW
    """
    return str(PeerID.from_pubkey(load_or_create(path).public_key))


def _checked(data: bytes) -> bytes:
    """The key in a file; `ValueError` if it is not as it was written.

    Files of before have no digest: of their 36 bytes a damaged one is another key.
    """
    key, mark, digest = data[:BARE_KEY], data[BARE_KEY : BARE_KEY + 8], data[BARE_KEY + 8 :]
    whole = mark == _MARK and digest == hashlib.sha256(key).digest()
    if len(key) < BARE_KEY or not (whole or len(data) == BARE_KEY):
        raise ValueError("the key is cut, or its digest is another")
    return key


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_as_file(new_ed25519_keys()))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)  # unlike a rename, never replaces
        except FileExistsError:
            pass
    finally:
        os.unlink(name)
