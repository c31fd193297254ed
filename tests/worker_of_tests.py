"""The process of a worker whose jobs do what their ids say; `test_workers.py` starts it."""

import mmap
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from sedma_jax._mappings import RESERVE, mappings
from sedma_jax.comm._jobs.worker_child import serve

ballast = []


def make(setup):
    def do(request, token, matrix, x):
        what = request.id.partition("-")[0]
        with open(Path(setup["log"]), "a") as log:
            log.write(f"{request.id} {os.getpid()}\n")
        if what == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "abort":
            os.abort()
        if what == "hungry":
            np.ones(10**9).sum()
        if what == "ballast":
            # Neighbours of one protection would be one mapping.
            while mappings()[0] < mappings()[1] - RESERVE // 2:
                for protection in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE) * 500:
                    ballast.append(mmap.mmap(-1, mmap.PAGESIZE, prot=protection))
        if what == "slow":
            time.sleep(60)
        if what == "nan":
            return x @ matrix.T, {"error": float("nan")}
        return x @ matrix.T, {"token": token}

    def settle(tokens):
        with open(Path(setup["log"]), "a") as log:
            log.writelines(f"settled {token}\n" for token in tokens)

    return do, settle


if __name__ == "__main__":
    serve(int(sys.argv[1]), make)
