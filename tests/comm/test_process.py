"""A node in a process of its own."""

import gc
import os
import signal
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from comm_nodes import EVERYONE, nodes

from sedma_jax import comm

ARRAY = np.random.default_rng(0).normal(size=(2048, 1024))  # 16 MiB


def shared_memory():
    """Files in memory that this process has open or mapped."""
    maps = Path("/proc/self/maps").read_text().count("memfd:sedma")
    links = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]
    return maps + sum("memfd:sedma" in link for link in links)


@pytest.mark.slow
def test_tensors_cross_processes_and_a_killed_one_is_a_clear_error():
    with nodes(1) as (other,), comm.open_node_process(allowed=EVERYONE) as node:
        assert node.connect(*other.addresses) == other.name
        cid = node.put(ARRAY)
        np.testing.assert_array_equal(other.get(cid, timeout=30), ARRAY)
        theirs = other.put(ARRAY + 1)
        found = node.get(theirs, timeout=30)
        np.testing.assert_array_equal(found, ARRAY + 1)
        assert not found.flags.writeable
        aliased = node.get_jax(theirs)
        assert aliased.dtype == jnp.asarray(found).dtype and aliased.shape == found.shape
        for small in (np.array(7, np.int8), np.ones((3, 2), bool)[:, ::2]):
            same = node.get(node.put(small))
            assert same.dtype == small.dtype
            np.testing.assert_array_equal(same, small)
        assert [p["id"] for p in node.peers()] == [other.name]
        assert node.status()["id"] == node.name
        for none in (np.zeros((0, 3)), np.array([None])):
            with pytest.raises(ValueError, match=r"needs (1 to|one of)"):
                node.put(none)
        with pytest.raises(ValueError, match="CID"):
            node.get("no-cid")
        with pytest.raises(ValueError, match="address of a peer"):
            node.connect("nowhere")
        del found, same, aliased
        gc.collect()
        assert shared_memory() == 0
        os.kill(node.pid, signal.SIGKILL)
        with pytest.raises(ConnectionError, match="exit status -9"):
            node.put(ARRAY)
        with pytest.raises(ConnectionError, match="exit status -9"):
            node.status()
        assert shared_memory() == 0


@pytest.mark.slow
def test_a_node_that_cannot_start_says_why(tmp_path):
    (tmp_path / "key").write_bytes(b"no key")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(ValueError, match="private key"):
        with comm.open_node_process(key=tmp_path / "key"):
            pass
