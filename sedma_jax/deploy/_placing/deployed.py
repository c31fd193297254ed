"""A workflow together with the nodes that its replicas run on."""

import dataclasses

from .._workflow.specification import Workflow


@dataclasses.dataclass(frozen=True)
class Deployed:
    """A workflow and the node of every replica.

    `nodes` is empty for a workflow that names no nodes: the scheduler then chooses.
    """

    workflow: Workflow
    nodes: dict[str, str]


def nodes_by_agent(deployed: Deployed) -> dict[str, list[str]]:
    """The nodes of every agent, one per replica that has one."""
    found: dict[str, list[str]] = {}
    for agent in deployed.workflow.agents:
        names = [f"{agent.name}-{r}" for r in range(agent.replicas)]
        found[agent.name] = [deployed.nodes[n] for n in names if n in deployed.nodes]
    return found
