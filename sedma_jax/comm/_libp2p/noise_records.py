"""Records of Noise after the handshake, as bytes; no input or output.

A record is its length in 2 bytes, then at most 65519 bytes encrypted by ChaCha20-Poly1305.
"""

from typing import Any

from cryptography.exceptions import InvalidTag

from .yamux_frames import FrameError

LARGEST_PLAIN = 65535 - 16  # two bytes of length, less the authentication tag
_OVERHEAD = 2 + 16


class NoiseRecords:
    """Encrypt and decrypt the records of a connection.

    Does what `NoiseConnection.encrypt` and `decrypt` do, and advances the same counters,
    without their copies: records are sealed one after another in one buffer, and opened
    where they lie.
    """

    def __init__(self, noise_state: Any):
        protocol = noise_state.noise_protocol
        self._sending = protocol.cipher_state_encrypt
        self._receiving = protocol.cipher_state_decrypt
        self._sealed = bytearray()

    def seal(self, plains: list[bytes]) -> memoryview:
        """Encrypted records of `plains`; the view is valid until the next call."""
        size = sum(map(len, plains)) + _OVERHEAD * len(plains)
        if size > len(self._sealed):
            self._sealed = bytearray(size)
        out, at, state = memoryview(self._sealed), 0, self._sending
        for plain in plains:
            stop = at + len(plain) + _OVERHEAD
            out[at : at + 2] = (stop - at - 2).to_bytes(2, "big")
            nonce = state.cipher.format_nonce(state.n)
            state.cipher.cipher.encrypt_into(nonce, plain, None, out[at + 2 : stop])
            state.n += 1
            at = stop
        return out[:size]

    def open(self, sealed: memoryview) -> bytes:
        """Decrypt a record without its length; `FrameError` if it is not authentic."""
        state = self._receiving
        nonce = state.cipher.format_nonce(state.n)
        try:
            plain = state.cipher.cipher.decrypt(nonce, sealed, None)
        except InvalidTag as error:
            raise FrameError("a Noise record cannot be decrypted") from error
        state.n += 1
        return plain
