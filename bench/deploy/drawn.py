"""Workflows of agents in communities of five, drawn for the studies of deployments."""

import random

from sedma_jax import deploy

AGENTS, NODES = 20, 10
ALIKE = tuple(
    deploy.ClusterNode(name=f"n{q}", memory="1500M", cpu="2", rack=f"r{q // 3}", zone="z0")
    for q in range(NODES)
)


def draw_workflow(
    seed: int = 0,
    *,
    memory: tuple[int, int] = (200, 500),
    cpu: tuple[int, int] = (200, 500),
    nodes: tuple[deploy.ClusterNode, ...] = ALIKE,
) -> deploy.Workflow:
    """Draw agents between these MB and milli-cores, and their traffic."""
    draw = random.Random(seed)
    agents = [
        deploy.Agent(
            name=f"a{k}",
            entry=f"bench:a{k}",
            image="local/agent:1",
            memory=f"{draw.randrange(*memory)}M",
            cpu=f"{draw.randrange(*cpu)}m",
        )
        for k in range(AGENTS)
    ]
    return deploy.Workflow(
        name="bench",
        agents=tuple(agents),
        edges=edges_of(draw_traffic(draw, list(range(AGENTS)))),
        nodes=nodes,
    )


def draw_traffic(draw: random.Random, order: list[int]) -> dict[tuple[int, int], float]:
    """Draw volumes, MB/s, of all pairs i < j, with the distributions of `placement.py`.

    Five agents that follow each other in `order` are a community.
    """
    community = {agent: k // 5 for k, agent in enumerate(order)}
    volumes = {}
    for i in range(AGENTS):
        for j in range(i + 1, AGENTS):
            near = community[i] == community[j]
            talk = draw.random() < (0.6 if near else 0.12)
            volume = draw.lognormvariate(*((1.5, 0.8) if near else (-0.5, 0.8)))
            volumes[i, j] = volume if talk else 1e-6
    return volumes


def shifted_traffic(seed: int) -> dict[tuple[int, int], float]:
    """Draw the traffic of the same agents in other communities."""
    draw, order = random.Random(seed), list(range(AGENTS))
    draw.shuffle(order)
    return draw_traffic(draw, order)


def edges_of(volumes: dict[tuple[int, int], float]) -> tuple[deploy.Edge, ...]:
    """The edges of a workflow with these volumes."""
    return tuple(
        deploy.Edge(source=f"a{i}", target=f"a{j}", volume=volume)
        for (i, j), volume in volumes.items()
    )
