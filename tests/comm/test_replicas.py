"""As many peers hold a tensor as were asked to, and no more."""

import time

import numpy as np
import trio
from comm_nodes import nodes, wait_until

from sedma_jax import comm

ARRAY = np.arange(300.0)


def holders(opened, cid):
    return {node.name for node in opened if node.node.store.peek(cid) is not None}


def meshed(opened):
    return wait_until(
        lambda: all(len(n.status()["connected"]) == len(opened) - 1 for n in opened), 30
    )


def slow_to_keep(node, seconds=0.5):
    """Have a node take its time before it holds what it is asked to."""
    keep = node.node.methods._methods["keep"]

    async def late(call):
        await trio.sleep(seconds)
        return await keep(call)

    node.node.methods.add("keep", late)


def test_repair_adds_nobody_while_a_put_looks_for_holders(monkeypatch):
    # Every 0.2 s: what is rare otherwise comes in every try. Nobody is lost so soon.
    monkeypatch.setattr(_upkeep, "REPAIR_AFTER", 1.0)
    with nodes(5, replicas=3) as opened:
        assert meshed(opened)
        for node in opened:
            slow_to_keep(node)
        cid = opened[0].put(ARRAY)
        found = holders(opened, cid)
        assert len(found) == 3
        # Who was asked first knows of who was asked last.
        for node in opened:
            if node.name in found:
                assert node.node.store.peek(cid).holders == found
        time.sleep(3)
        assert holders(opened, cid) == found


def test_peers_that_were_published_to_look_for_no_other(monkeypatch):
    monkeypatch.setattr(_upkeep, "REPAIR_AFTER", 0.5)
    with nodes(4) as opened:
        assert meshed(opened)
        published = comm.publish(
            ARRAY, peers=[node.addresses[0] for node in opened], copies=2
        )
        found = {peer["id"] for peer in published.peers}
        assert len(found) == 2
        time.sleep(2)  # a holder that is missed is replaced after 0.6 s
        assert holders(opened, published.cid) == found
