"""Nodes behind NAT, in network namespaces that `bench/comm/nat.py` makes; as root only."""

import tempfile
from pathlib import Path

import pytest
from missing import missing

from bench.comm import nat

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def laboratory():
    """Skips where namespaces cannot be made, in CI too: nothing installs that right.

    Tools that are merely not installed fail under SEDMA_REQUIRE_SERVICES=1.
    """
    if reason := nat.why_not():
        pytest.skip(reason)
    if tools := nat.missing_tools():
        missing(f"needs {' '.join(tools)}: `bash .ci/services` installs them")


def test_nodes_behind_cone_nats_connect_directly_twenty_times_of_twenty():
    found = nat.trials("cone", "cone", 20, 15.0)
    for seen in found["trials"]:
        assert seen["relayed_at_first"] and seen["equal"] and seen["direct"]
        assert seen["by"] == ["/ip4/11.22.33.3/tcp/4001"]
    assert found["reachable"] is False


@pytest.mark.parametrize("nats", [("symmetric", "cone"), ("cone", "symmetric")])
def test_a_symmetric_nat_leaves_the_connection_at_the_relay(nats):
    found = nat.trials(*nats, 1, 12.0)
    (seen,) = found["trials"]
    assert seen["relayed_at_first"] and seen["equal"] and not seen["direct"]
    assert seen["by"] == [] and found["punched"] == 0


def test_nodes_that_know_the_relay_alone_meet():
    assert nat.meet("cone", "cone") < 60


def test_a_node_in_the_open_takes_no_place_at_the_relay():
    with (
        tempfile.TemporaryDirectory() as text,
        nat.laboratory("cone", "cone") as names,
        nat.relay_and_target(names, Path(text)) as (relay, _),
    ):
        mine = Path(text) / "open"
        listen = ("--listen", f"/ip4/{nat.RELAY}/tcp/4002", "--via-relay", relay)
        with nat.node(names["relay"], mine, *listen):
            nat.until(lambda: nat.status(mine)["reachable"] is not None, 30)
            told = nat.status(mine)
    assert told["reachable"] is True
    assert not any("p2p-circuit" in address for address in told["addresses"])
