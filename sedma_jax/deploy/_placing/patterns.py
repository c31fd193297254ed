"""Workflows as long-term memory knows them."""

import hashlib
import json
import math
from typing import Any, Protocol, runtime_checkable

from .._workflow.specification import Workflow

KIND = "deployment"  # of patterns; the reward is the performance measured, more is better
_EDGES = 64  # that are features; memory takes up to 256


@runtime_checkable
class Remembers(Protocol):
    """What is asked of `sedma_jax.memory.Memory`."""

    def record(self, kind, workload, choice, reward, *, features=None) -> None:
        """Add a reward."""
        ...

    def recall(self, kind, workload) -> list[Any]:
        """Patterns of a workload, the best first."""
        ...

    def nearest(self, kind, features, k=8) -> list[Any]:
        """Patterns with features near these."""
        ...


def structure(workflow: Workflow) -> str:
    """The class of a workflow: its agents and edges, whatever their traffic."""
    agents = sorted((a.name, a.replicas) for a in workflow.agents)
    edges = sorted((e.source, e.target, e.protocol) for e in workflow.edges)
    text = json.dumps([workflow.name, agents, edges])
    return f"v1:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def features(workflow: Workflow) -> list[float]:
    """log2 of the traffic of every edge in kB/s, at most the first 64 by name."""
    edges = sorted((e.source, e.target, e.volume * e.rate) for e in workflow.edges)
    return [math.log2(1 + 1e3 * volume) for _, _, volume in edges[:_EDGES]]
