"""What `transport.py` measures alike in every interpreter; needs NumPy alone."""

import struct
import time
import zlib

import numpy as np

SIZES = {"64 MiB": 64 * 2**20, "128 B": 128, "256 KiB": 256 * 1024}
SECONDS = 1.5  # that calls of each size go on for
DATA = np.random.default_rng(0).integers(0, 255, 64 * 2**20, np.uint8)
LENGTH = struct.Struct("!Q")


async def measure(fetch):
    """Rates of one round; the first call of each size is not timed."""
    rates = {}
    for name, size in SIZES.items():
        view = memoryview(bytearray(size))
        await fetch(size, view)
        assert zlib.crc32(view) == zlib.crc32(DATA[:size])
        count, started = 0, time.perf_counter()
        while not count or time.perf_counter() - started < SECONDS:
            await fetch(size, view)
            count += 1
        rate = count / (time.perf_counter() - started)
        rates[name] = rate * size / 1e6 if name == "64 MiB" else rate
    return rates
