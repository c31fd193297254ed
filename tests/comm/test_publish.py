"""Peers that are named hold what is published, after the publisher is gone."""

import numpy as np
import pytest
from comm_nodes import nodes

from sedma_jax import comm


def test_named_peers_hold_the_tensor_after_the_publisher_left():
    array = np.random.default_rng(0).normal(size=(40, 3))
    with nodes(3) as opened:
        addresses = [node.addresses[0] for node in opened[1:]]
        published = comm.publish(array, peers=addresses, copies=2)
        assert {peer["id"] for peer in published.peers} == {n.name for n in opened[1:]}
        assert not published.embedded and published.seconds > 0
        scores = [peer["score"] for peer in published.peers]
        assert scores == sorted(scores, reverse=True)
        # The first node never saw it: it comes from those two, verified.
        np.testing.assert_array_equal(opened[0].get(published.cid, timeout=30), array)


def test_nobody_there_is_an_error():
    with nodes(1) as (gone,):
        address = gone.addresses[0]
    with pytest.raises(ConnectionError, match="Got none of 1"):
        comm.publish(np.zeros(3), peers=[address], patience=0.5)
    with pytest.raises(ValueError, match="copies >= 1"):
        comm.publish(np.zeros(3), copies=0)
    with pytest.raises(ValueError, match="address of a peer"):
        comm.publish(np.zeros(3), peers=["localhost:4001"])
