"""As many peers hold a tensor as were asked to, and no more."""

import numpy as np
import trio
from comm_nodes import EVERYONE, nodes, wait_until

from sedma_jax import comm

ARRAY = np.arange(300.0)


def holders(opened, cid):
    return {node.name for node in opened if node.node.store.peek(cid) is not None}


def meshed(opened):
    return wait_until(
        lambda: all(len(n.status()["connected"]) == len(opened) - 1 for n in opened), 30
    )


def repaired(opened, rounds):
    """Wait until every node has looked for lost holders so many times."""
    replications = [node.node.replication for node in opened]
    ends = [r.rounds + rounds for r in replications]
    reached = lambda: all(r.rounds >= e for r, e in zip(replications, ends, strict=True))
    return wait_until(reached, 60)


def slow_to_keep(node, rounds=3):
    """Have a node hold what it is asked to only after some rounds of repair."""
    keep, replication = node.node.methods["keep"], node.node.replication

    async def late(call):
        end = replication.rounds + rounds
        while replication.rounds < end:
            await trio.sleep(0.01)
        return await keep(call)

    node.node.methods.add("keep", late)


def test_repair_adds_nobody_while_a_put_looks_for_holders():
    # Rounds every 0.2 s meet every put. Nobody is lost so soon.
    with nodes(5, replicas=3, repair_after=1.0) as opened:
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
        assert repaired(opened, 15)
        assert holders(opened, cid) == found


def test_other_holders_are_told_of_what_went_for_want_of_room():
    size = ARRAY.nbytes
    quick = {"allowed": EVERYONE, "status_every": 0.2, "repair_after": 1.0}
    with (
        comm.open_node(**quick, capacity=8 * size) as keeper,
        comm.open_node(**quick, replicas=2) as owner,
    ):
        owner.connect(*keeper.addresses)
        cid = owner.put(ARRAY)
        assert holders((keeper, owner), cid) == {keeper.name, owner.name}
        with comm.open_node(allowed=EVERYONE, status_every=0.2) as spare:
            spare.connect(*owner.addresses)
            assert repaired((owner,), 3)
            assert holders((spare,), cid) == set()  # nobody is missing
            for i in range(8):  # the keeper's owner needs the room of what it kept
                keeper.put(ARRAY + i + 1)
            assert keeper.node.store.peek(cid) is None
            entry = owner.node.store.peek(cid)
            assert wait_until(lambda: entry.holders == {owner.name, spare.name}, 30)
            assert holders((spare,), cid) == {spare.name}


def test_peers_that_were_published_to_look_for_no_other():
    with nodes(4, repair_after=0.5) as opened:
        assert meshed(opened)
        published = comm.publish(
            ARRAY, peers=[node.addresses[0] for node in opened], copies=2
        )
        found = {peer["id"] for peer in published.peers}
        assert len(found) == 2
        # A holder that is missed is replaced in the sixth round.
        assert repaired(opened, 20)
        assert holders(opened, published.cid) == found
