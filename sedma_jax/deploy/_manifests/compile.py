"""Compile a workflow: serving code, Dockerfile, compose file, Kubernetes manifests."""

import json
from pathlib import Path

import jax
import numpy as np

from ...kernels import node_loads
from .._json import JsonObject
from .._placing.placement import Placement, place
from .._placing.problem import placement_problem, replica_names
from .._workflow.quantity import parse_quantity
from .._workflow.specification import Agent, ClusterNode, Workflow
from .._workflow.yaml_files import to_yaml
from .agent_objects import agent_objects, protocols, speaks_libp2p
from .job_objects import job_objects
from .objects import secret_name, workflow_objects

_LEAST_CPUS = 0.01  # Docker refuses less
_SERVERS = {"http": "uvicorn>=0.34", "grpc": "grpcio>=1.60"}
_SECRET = "set it to what `openssl rand -hex 32` prints"
_SERVE = Path(__file__).with_name("serve")


def compile(
    workflow: Workflow | None = None,
    placement: Placement | None = None,
) -> dict[str, str]:
    """Compile a workflow into files, the same bytes each time.

    **Arguments:**

    - `workflow`: what to deploy; one agent on one node if left out.
    - `placement`: what `plan` found; a required affinity pins pods to its nodes.

    **Returns:**

    The text of every file by its path: `serve/*.py`, `Dockerfile`, `compose.yaml`,
    `manifests/*.yaml`, and `placement.json` where there is a placement.

    **Example:**

        >>> files = sj.deploy.compile(sj.deploy.default_workflow())
        >>> [name for name in files if not name.startswith("serve/")]
        ['Dockerfile', 'compose.yaml', 'manifests/00-workflow.yaml',
         'manifests/10-crossbar.yaml']
        >>> "sedma_jax.deploy.agents:crossbar" in files["compose.yaml"]
        True
    """
    workflow = workflow or default_workflow()
    nodes = _nodes_of_agents(workflow, placement) if placement else {}
    files = {
        **{f"serve/{path.name}": path.read_text() for path in sorted(_SERVE.glob("*.py"))},
        "Dockerfile": _dockerfile(workflow),
        "compose.yaml": to_yaml(_compose(workflow)),
        "manifests/00-workflow.yaml": _note(workflow)
        + to_yaml(*workflow_objects(workflow)),
    }
    for agent in sorted(workflow.agents, key=lambda a: a.name):
        objects = agent_objects(workflow, agent, nodes.get(agent.name))
        files[f"manifests/10-{agent.name}.yaml"] = to_yaml(*objects)
    for job in sorted(workflow.jobs, key=lambda j: j.name):
        files[f"manifests/20-{job.name}.yaml"] = to_yaml(*job_objects(workflow, job))
    if placement:
        files["placement.json"] = json.dumps(describe(workflow, placement), indent=2) + "\n"
    return files


def _note(workflow: Workflow) -> str:
    """Say in manifests which Secret they need; `sedma deploy apply` makes it."""
    if not any(speaks_libp2p(workflow, agent) for agent in workflow.agents):
        return ""
    return (
        "# Agents with libp2p edges start once there is a Secret, which\n"
        "# `sedma deploy apply` makes. By hand:\n"
        f"#   kubectl -n {workflow.namespace} create secret generic "
        f"{secret_name(workflow)} "
        "--from-literal=SEDMA_SECRET=$(openssl rand -hex 32)\n"
    )


def plan(
    workflow: Workflow | None = None, *, key: jax.Array, prove_seconds: float = 10.0
) -> Placement:
    """Place a workflow on its nodes; see `place`.

    **Arguments:**

    - `workflow`: needs nodes; one agent on one node if left out.
    - `key`: for the annealing.
    - `prove_seconds`: wall time of the proof; 0 for none.

    **Raises:** `ValueError` for a workflow without nodes; `Infeasible` if no placement was
    found.

    **Example:**

        >>> placement = sj.deploy.plan(sj.deploy.default_workflow(), key=jr.key(0))
        >>> placement.nodes.tolist(), placement.optimal  # the only agent on the only node
        ([0], True)
    """
    problem = placement_problem(workflow or default_workflow())
    return place(problem, key=key, prove_seconds=prove_seconds)


def default_workflow() -> Workflow:
    """Give the workflow that `sedma run` takes by default: one agent on one node.

    **Example:**

        >>> flow = sj.deploy.default_workflow()
        >>> flow.agents[0].entry, flow.nodes[0].name
        ('sedma_jax.deploy.agents:crossbar', 'localhost')
    """
    agent = Agent(
        name="crossbar",
        entry="sedma_jax.deploy.agents:crossbar",
        memory="1Gi",
        cpu="1",
    )
    return Workflow(
        name="sedma",
        agents=(agent,),
        nodes=(ClusterNode(name="localhost", memory="4Gi", cpu="2"),),
    )


def describe(workflow: Workflow, placement: Placement) -> JsonObject:
    """Describe a placement: the node of every replica, and the parts of the cost.

    **Returns:** a record for JSON. The costs are those of Eq. 11-13: MB/s times ms / Gbps,
    and `overhead_gb` in GB.

    **Example:**

        >>> flow = sj.deploy.default_workflow()
        >>> told = sj.deploy.describe(flow, sj.deploy.plan(flow, key=jr.key(0)))
        >>> told["placement"], told["communication"]
        ({'crossbar-0': 'localhost'}, 0.0)
        >>> round(told["overhead_gb"], 4), round(told["cost"], 4)  # 64Mi; lambda is 0.5
        (0.0671, 0.0336)
    """
    names = [node.name for node in workflow.nodes]
    cost = placement.cost
    return {
        "workflow": workflow.name,
        "placement": {
            replica: names[q]
            for replica, q in zip(
                replica_names(workflow), placement.nodes.tolist(), strict=True
            )
        },
        "cost": float(cost.total),
        "communication": float(cost.communication),
        "overhead_gb": float(cost.overhead),
        "bound": placement.bound,
        "optimal": placement.optimal,
    }


def _nodes_of_agents(workflow: Workflow, placement: Placement) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    owners = [a.name for a in workflow.agents for _ in range(a.replicas)]
    for owner, q in zip(owners, placement.nodes.tolist(), strict=True):
        found.setdefault(owner, []).append(workflow.nodes[q].name)
    return found


def _dockerfile(workflow: Workflow) -> str:
    spoken = {p for agent in workflow.agents for p in protocols(workflow, agent)}
    packages = " ".join(text for p, text in _SERVERS.items() if p in spoken)
    extras = ["deploy"] * any(a.entry.startswith("sedma_jax.") for a in workflow.agents)
    libp2p = any(edge.protocol == "libp2p" for edge in workflow.edges)
    # A dependency of libp2p has no wheel, so that pip has to build it.
    headers = (
        "apt-get update && apt-get install -y --no-install-recommends build-essential "
        "libgmp-dev && "
    )
    install = ["comm"] * libp2p + extras
    install = [
        f"ARG SEDMA=sedma-jax[{','.join(install)}]",
        f'RUN test -z "$SEDMA" || {{ {headers * libp2p}pip install "$SEDMA"; }}',
    ] * bool(install)
    return "\n".join(
        [
            f"# Agents of {workflow.name}: one image, SEDMA_ENTRY chooses the agent.",
            f"# BASE needs Python 3.11 or later; if PIP is empty, also {packages}.",
            "ARG BASE=docker.io/library/python:3.11-slim",
            "FROM ${BASE}",
            f'ARG PIP="{packages}"',
            'RUN test -z "$PIP" || pip install $PIP',
            *install,
            "WORKDIR /agents",
            "COPY . /agents",
            "ENV PYTHONPATH=/agents PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1",
            "USER 65532",
            'ENTRYPOINT ["python3", "-m", "serve"]',
            "",
        ]
    )


def _compose(workflow: Workflow) -> JsonObject:
    services = {}
    for agent in sorted(workflow.agents, key=lambda a: a.name):
        objects = agent_objects(workflow, agent)
        data = next(o["data"] for o in objects if o["kind"] == "ConfigMap")
        service = {"image": agent.image or f"localhost/{workflow.name}:latest"}
        if not agent.image:
            service["build"] = "."
        if speaks_libp2p(workflow, agent):
            data = data | {"SEDMA_SECRET": f"${{SEDMA_SECRET:?{_SECRET}}}"}
        service |= {
            "environment": data,
            "mem_limit": str(int(parse_quantity(agent.memory))),
            "cpus": max(float(parse_quantity(agent.cpu)), _LEAST_CPUS),
            "read_only": True,
            "tmpfs": ["/tmp"],
            "security_opt": ["no-new-privileges"],
            "cap_drop": ["ALL"],
        }
        if agent.replicas > 1:
            service["deploy"] = {"replicas": agent.replicas}
        targets = sorted({e.target for e in workflow.edges if e.source == agent.name})
        if targets and not workflow.cycles:
            service["depends_on"] = targets
        services[agent.name] = service
    return {"name": workflow.name, "services": services}


def node_shares(workflow: Workflow, placement: Placement) -> list[JsonObject]:
    """Say what every node holds: its replicas, and their share of its memory and CPU.

    **Returns:** a record for JSON for each node; shares are 1 where a node is full.

    **Example:**

        >>> flow = sj.deploy.default_workflow()
        >>> sj.deploy.node_shares(flow, sj.deploy.plan(flow, key=jr.key(0)))
        [{'node': 'localhost', 'memory': 0.265625, 'cpu': 0.5, 'replicas': ['crossbar-0']}]
    """
    problem = placement_problem(workflow)
    names = replica_names(workflow)
    shares = []
    load = node_loads(problem, jax.numpy.asarray(placement.nodes))
    for q, node in enumerate(workflow.nodes):
        here = [names[i] for i in np.flatnonzero(placement.nodes == q)]
        shares.append(
            {
                "node": node.name,
                "memory": float(load.memory[q] / problem.node_memory[q]),
                "cpu": float(load.cpu[q] / problem.node_cpu[q]),
                "replicas": here,
            }
        )
    return shares
