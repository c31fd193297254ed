"""A worker of `sedma serve` whose process has few memory mappings left."""

import mmap
import sys

from sedma_jax._cli import job_work
from sedma_jax._mappings import mappings
from sedma_jax.comm._jobs.worker_child import serve

USED = 60_600
_ballast = []


def _make(setup):
    made = job_work._make(setup)
    # Neighbours of one protection would be one mapping.
    protections = (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE)
    while mappings()[0] < USED:
        for i in range(1000):
            _ballast.append(mmap.mmap(-1, mmap.PAGESIZE, prot=protections[i % 2]))
    return made


if __name__ == "__main__":
    serve(int(sys.argv[1]), _make)
