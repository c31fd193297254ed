"""Nodes on loopback for the tests of `sedma_jax.comm`."""

import time
from contextlib import ExitStack, contextmanager

from sedma_jax import comm

EVERYONE = frozenset({comm.EVERYONE})


@contextmanager
def nodes(count, **settings):
    """Nodes that let everyone in, each connected to the first."""
    settings = {"allowed": EVERYONE, "status_every": 0.2, **settings}
    with ExitStack() as stack:
        opened = [stack.enter_context(comm.open_node(**settings))]
        for _ in range(count - 1):
            opened.append(stack.enter_context(comm.open_node(**settings)))
            opened[-1].connect(*opened[0].addresses)
        # The dialling side knows of a connection first.
        assert wait_until(lambda: len(opened[0].status()["connected"]) >= count - 1, 30)
        yield opened


def wait_until(condition, seconds=10.0):
    """Wait for a condition; whether it came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
