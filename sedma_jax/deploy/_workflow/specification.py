"""The workflow and the cluster it is deployed on."""

from collections.abc import Collection
from decimal import Decimal
from itertools import islice
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .fields import (
    Bytes,
    Count,
    Cpu,
    EntryPoint,
    Image,
    Memory,
    Name,
    NodeName,
    Number,
    Switch,
    Word,
)
from .quantity import parse_quantity
from .taken_names import taken_names


class _Strict(BaseModel):
    """A part of the file: other fields are refused, and it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SharedModel(_Strict):
    """Weights that the agents of one node share."""

    name: Name
    memory: Bytes


class Agent(_Strict):
    """One agent: its code, what it takes, and its number of replicas."""

    name: Name
    entry: EntryPoint  # a function of (request: bytes, call) that returns bytes
    image: Image | None = None  # built from the compiled Dockerfile if left out
    memory: Memory
    cpu: Cpu
    model: Name | None = None
    replicas: Annotated[Count, Field(ge=1, le=1000)] = 1
    stateful: Switch = False
    nodes: tuple[str, ...] = ()  # nodes it may run on; any if empty


class Edge(_Strict):
    """The calls that one agent makes to another."""

    source: Name
    target: Name
    protocol: Literal["http", "grpc", "libp2p"] = "http"
    volume: Annotated[Number, Field(gt=0)]  # MB per request, both ways
    rate: Annotated[Number, Field(gt=0)] = 1.0  # requests per second


class ClusterNode(_Strict):
    """What a node of the cluster offers."""

    name: NodeName
    memory: Bytes
    cpu: Cpu
    rack: str = ""
    zone: str = ""
    base: Bytes = "64Mi"  # memory that a node's runtime takes once it is used


class Link(_Strict):
    """Latency and bandwidth between two nodes."""

    latency_ms: Annotated[Number, Field(ge=0)]
    bandwidth_gbps: Annotated[Number, Field(gt=0)]


class Network(_Strict):
    """Links in a rack, in a zone, and between zones."""

    rack: Link = Link(latency_ms=0.05, bandwidth_gbps=25)
    zone: Link = Link(latency_ms=0.25, bandwidth_gbps=10)
    region: Link = Link(latency_ms=1.0, bandwidth_gbps=4)


class JaxJob(_Strict):
    """A JAX program on several hosts."""

    name: Name
    image: Image
    command: tuple[Word, ...] = Field(min_length=1, max_length=64)
    processes: Annotated[Count, Field(ge=1, le=10_000)]
    memory: Memory
    cpu: Cpu
    carrier: Literal["job", "jobset"] = "job"


class Workflow(_Strict):
    """A workflow of agents and the cluster to place it on.

    **Raises:** `pydantic.ValidationError` for names that are unknown or given twice, and
    for cycles unless `cycles` is true.
    """

    name: Name
    namespace: Name = "default"
    agents: tuple[Agent, ...] = Field(min_length=1, max_length=10_000)
    edges: tuple[Edge, ...] = Field(default=(), max_length=200_000)
    models: tuple[SharedModel, ...] = ()
    jobs: tuple[JaxJob, ...] = ()
    nodes: tuple[ClusterNode, ...] = ()  # without nodes no placement is made
    network: Network = Network()
    cycles: Switch = False  # whether agents may call each other in a circle
    lambda_mem: Annotated[Number, Field(ge=0)] = 0.5

    @model_validator(mode="after")
    def _names_stand_for_one_thing(self) -> "Workflow":
        for kind in ("agents", "models", "nodes", "jobs"):
            seen = set()
            for k, item in enumerate(getattr(self, kind)):
                if item.name in seen:
                    raise Misplaced(
                        (kind, k, "name"),
                        f"a name may be given once among {kind}. Got {item.name!r} again. "
                        "Rename one",
                    )
                seen.add(item.name)
        return self

    @model_validator(mode="after")
    def _objects_have_names_of_their_own(self) -> "Workflow":
        taken = {agent.name: "an agent" for agent in self.agents}
        taken |= taken_names(self.name, self.namespace)
        sets = (job.name for job in self.jobs if job.carrier == "jobset")
        taken |= {f"{name}-hosts-0": f"the Job of the JobSet {name}" for name in sets}
        agents = len(self.agents)
        for k, item in enumerate((*self.agents, *self.jobs)):
            is_job = k >= agents
            place = ("jobs", k - agents, "name") if is_job else ("agents", k, "name")
            if (of := taken.get(item.name)) and (is_job or of != "an agent"):
                raise Misplaced(
                    place,
                    "agents and jobs need names that no other object has. Got "
                    f"{item.name!r}, the name of {of}. Rename it",
                )
        for k, job in enumerate(self.jobs):
            # JobSet's webhook adds the index and five random letters, and wants a label.
            name = f"{job.name}-hosts-0-{job.processes - 1}-xxxxx"
            if job.carrier == "jobset" and len(name) > 63:
                raise Misplaced(
                    ("jobs", k, "name"),
                    "the pods of a JobSet need names of at most 63 characters. Got "
                    f"{len(name)}. Shorten the name by {len(name) - 63}",
                )
        return self

    @model_validator(mode="after")
    def _edges_are_given_once(self) -> "Workflow":
        first: dict[tuple[str, str], Edge] = {}
        for k, edge in enumerate(self.edges):
            other = first.setdefault((edge.source, edge.target), edge)
            if other is not edge:
                kinds = " and ".join(dict.fromkeys((other.protocol, edge.protocol)))
                raise Misplaced(
                    ("edges", k),
                    "two agents need one edge from one to the other, since `call` names "
                    f"the agent alone. Got {edge.source!r} -> {edge.target!r} again "
                    f"({kinds}). Take one out, and add up their volumes",
                )
        return self

    @model_validator(mode="after")
    def _references_are_known(self) -> "Workflow":
        known = dict.fromkeys(agent.name for agent in self.agents)
        for k, edge in enumerate(self.edges):
            for end in ("source", "target"):
                _known(getattr(edge, end), known, ("edges", k, end), "agents")
            if edge.source == edge.target:
                raise Misplaced(
                    ("edges", k, "target"),
                    f"an edge needs two agents. Got {edge.source!r} twice. Leave it out",
                )
        models = dict.fromkeys(model.name for model in self.models)
        nodes = dict.fromkeys(node.name for node in self.nodes)
        for k, agent in enumerate(self.agents):
            if agent.model is not None:
                _known(agent.model, models, ("agents", k, "model"), "models")
            for n, node in enumerate(agent.nodes):
                _known(node, nodes, ("agents", k, "nodes", n), "nodes")
        if not self.cycles and (cycle := _cycle(self)):
            k, path = cycle
            raise Misplaced(
                ("edges", k),
                f"edges need to form no cycle. Got {' -> '.join(path)}. Take one edge out, "
                "or write `cycles: true`",
            )
        return self


class Misplaced(ValueError):
    """An error that the whole workflow shows, but that one field of it causes."""

    def __init__(self, place: tuple[str | int, ...], message: str):
        super().__init__(message)
        self.place = place


def _known(
    name: str, names: Collection[str], place: tuple[str | int, ...], kind: str
) -> None:
    """Raise `Misplaced` unless `name` is among the names of a kind."""
    if name not in names:
        listed = ", ".join(islice(names, 8)) + (", ..." if len(names) > 8 else "")
        raise Misplaced(
            place, f"no such name among {kind}. Got {name!r}. Choose of: {listed or 'none'}"
        )


def _cycle(workflow: Workflow) -> tuple[int, list[str]] | None:
    """Find a cycle; return the number of the edge that closes it, and its agents."""
    following: dict[str, list[tuple[int, str]]] = {}
    for k, edge in enumerate(workflow.edges):
        following.setdefault(edge.source, []).append((k, edge.target))
    done: set[str] = set()
    for agent in workflow.agents:
        # A stack, not recursion: a chain may be longer than Python's limit.
        path, position = [agent.name], {agent.name: 0}
        pending = [iter(following.get(agent.name, []))]
        while pending and agent.name not in done:
            step = next(pending[-1], None)
            if step is None:
                pending.pop()
                done.add(name := path.pop())
                del position[name]
            elif step[1] in position:
                return step[0], [*path[position[step[1]] :], step[1]]
            elif step[1] not in done:
                position[step[1]] = len(path)
                path.append(step[1])
                pending.append(iter(following.get(step[1], [])))
    return None


def gigabytes(quantity: str) -> float:
    """Convert a quantity of bytes to GB (1e9)."""
    return float(parse_quantity(quantity) / Decimal(10) ** 9)
