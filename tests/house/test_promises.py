"""The figures of `docs/promises.md` are those of the last runs."""

import json
from pathlib import Path

import pytest

from bench.comm import load
from sedma_jax.comm._libp2p import muxer, newcomers, places
from sedma_jax.comm._rpc import body_memory

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench/results"


@pytest.fixture(scope="module")
def record():
    return json.loads((RESULTS / "load.json").read_text())


def test_the_table_under_load_is_that_of_the_last_run(record):
    assert load.table(record) in (ROOT / "docs/promises.md").read_text()


def test_what_was_held_under_load_is_within_the_limits(record):
    assert 0 < record["silent"]["held"] <= newcomers.HANDSHAKES_EACH
    assert record["silent"]["newcomer_got_in"]
    assert record["streams"]["held"] == muxer.MOST_STREAMS
    held = record["bodies"]
    assert held["connections_held"] == places.STRANGERS
    # 256 MiB of bodies, and what the connections and the allocator take beside them.
    assert held["peak_MB"] < 1.5 * body_memory.BUDGET_IN_ALL / 1e6 + 100
    assert not held["meanwhile"]["failed"] and not record["requests"]["failed"]


def test_the_limits_of_go_libp2p_are_those_of_its_defaults():
    # Base and increase for each GiB, as limit_defaults.go has them, inbound.
    defaults = {
        "handshakes": (32, 16),
        "connections": (64, 64),
        "streams": (256, 128),
        "bodies": (128, 1024),
    }
    for name, (base, more) in defaults.items():
        least, larger = load.THEIRS[name]
        assert least.startswith(f"{base}") and larger.startswith(f"{base + more:,}")
