"""How workflows and their placements are written in long-term memory."""

import hashlib
import json
import math

from .._workflow.specification import Workflow

# Kinds of patterns, and their rewards.
MEASURED = "deployment"  # what `sedma deploy watch` measured; more is better
PLANNED = "placement"  # what `remembered_plan` found; minus the cost
# Bytes of a choice that memory takes, with room for how it writes them.
LARGEST_CHOICE = 2**14 - 512
_EDGES = 64  # edges that give a feature; memory takes up to 256 features


def structure(workflow: Workflow) -> str:
    """Name the structure of a workflow: its agents and edges, but not their traffic."""
    agents = sorted((a.name, a.replicas) for a in workflow.agents)
    edges = sorted((e.source, e.target, e.protocol) for e in workflow.edges)
    text = json.dumps([workflow.name, agents, edges])
    return f"v1:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def features(workflow: Workflow) -> list[float]:
    """Give log2 of the traffic in kB/s of the edges, at most the first 64 by name."""
    edges = sorted((e.source, e.target, e.volume * e.rate) for e in workflow.edges)
    return [math.log2(1 + 1e3 * volume) for _, _, volume in edges[:_EDGES]]
