"""With js-libp2p and Helia, another make of the protocols, in a process of its own."""

import base64

import numpy as np
import pytest
from comm_nodes import EVERYONE, wait_until
from helia import running_helia
from libp2p.host.ping import PingService

from sedma_jax import comm
from sedma_jax.comm._libp2p.library import PeerID, cid_to_text
from sedma_jax.comm._tensors.bitswap import RAW
from sedma_jax.comm._tensors.manifest import CHUNK, read_manifest

pytestmark = pytest.mark.slow  # npm installs for a minute
ARRAY = np.random.default_rng(9).normal(size=(300, 500))  # 1.2 MB, five chunks


@pytest.fixture(scope="module")
def helia():
    with running_helia() as opened:
        yield opened


@pytest.fixture(params=["Helia dials", "we dial"])
def connected(helia, request):
    """A node of ours connected to Helia, and Helia's id."""
    address = helia("address")
    with comm.open_node(allowed=EVERYONE, status_every=0.5) as node:
        if request.param == "we dial":
            node.connect(address)
        else:
            used = helia("dial", address=node.addresses[0])
            assert used["encryption"] == "/noise" and used["multiplexer"] == "/yamux/1.0.0"
        name = address.rpartition("/")[2]
        assert wait_until(lambda: name in node.status()["connected"], 30)
        yield node, name


def test_identify_and_ping_both_ways(helia, connected):
    node, name = connected
    seen = helia("identify", id=node.name)
    assert seen["agent"].startswith("py-libp2p") and seen["signed"]
    assert {"/sedma/rpc/1.0.0", "/ipfs/bitswap/1.2.0", "/ipfs/ping/1.0.0"} <= {
        *seen["protocols"]
    }
    assert helia("ping", id=node.name) < 10_000  # ms
    peer, host = PeerID.from_string(name), node.node.host

    def identified():
        try:
            return "/ipfs/bitswap/1.2.0" in host.get_peerstore().get_protocols(peer)
        except Exception:
            return False

    assert wait_until(identified, 30)
    # In whole milliseconds; it raises where the bytes do not come back.
    assert len(node.call(PingService(host).ping, peer)) == 1


def test_helia_fetches_a_tensor_by_manifest_and_chunks(helia, connected):
    node, _ = connected
    array = ARRAY + np.random.default_rng().normal()  # not what Helia kept from before
    cid = node.put(array)
    manifest = read_manifest(base64.b64decode(helia("get", cid=cid)))
    assert manifest.cid == cid and manifest.shape == ARRAY.shape
    digests = manifest.digests(0, manifest.nbytes)
    assert len(digests) == 5
    data = b"".join(
        base64.b64decode(helia("get", cid=cid_to_text(RAW + digest))) for digest in digests
    )
    fetched = np.frombuffer(data, manifest.dtype).reshape(manifest.shape)
    np.testing.assert_array_equal(fetched, array)


@pytest.mark.parametrize("size", [13, CHUNK, 2**20])
def test_we_fetch_blocks_from_helia(helia, connected, size):
    node, name = connected
    block = np.random.default_rng(size).bytes(size)
    cid = helia("put", block=base64.b64encode(block).decode())
    assert node.get_block(cid, name, timeout=60) == block
    assert node.get_block(cid, timeout=60) == block  # of whoever has it


def test_a_block_that_helia_has_not(helia, connected):
    node, name = connected
    cid = cid_to_text(RAW + bytes(32))
    with pytest.raises(comm.FetchError):
        node.get_block(cid, name, timeout=60)
