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
    """Weights that the agents of one node share.

    - `memory`: quantity of bytes, at least 4096, taken once on each node that needs it.

    **Example:**

        >>> model = sj.deploy.SharedModel(name="minilm", memory="90M")
        >>> what = dict(entry="app:answer", memory="1G", cpu="1", model="minilm")
        >>> agents = tuple(sj.deploy.Agent(name=n, **what) for n in ("front", "back"))
        >>> sj.deploy.Workflow(name="tour", agents=agents, models=(model,)).models[0].memory
        '90M'
    """

    name: Name
    memory: Bytes


class Agent(_Strict):
    """One agent: its code, what it takes, and its number of replicas.

    - `name`: 1 to 52 of a-z, 0-9 and '-'.
    - `entry`: `module:function`, a function of (request: bytes, call) that returns bytes.
    - `image`: built from the compiled Dockerfile if left out.
    - `memory`: quantity of bytes of each replica, at least 6 MiB; without `model`.
    - `cpu`: quantity of cores of each replica, at least 1m.
    - `model`: name of a `SharedModel`.
    - `replicas`: 1 to 1000.
    - `stateful`: whether replicas keep their names, as those of a StatefulSet.
    - `nodes`: nodes it may run on; any if empty.

    **Raises:** `pydantic.ValidationError`, a `ValueError`, with a line for each field.

    **Example:**

        >>> agent = sj.deploy.Agent(name="guide", entry="app:answer", memory="1Gi", cpu=0.5)
        >>> agent.cpu, agent.replicas, agent.image
        ('0.5', 1, None)
        >>> sj.deploy.Agent(name="guide", entry="app:answer", memory="1GB", cpu=0.5)
        Traceback (most recent call last):
        pydantic_core...ValidationError: ... Got '1GB'. Write 1G. ...
    """

    name: Name
    entry: EntryPoint
    image: Image | None = None
    memory: Memory
    cpu: Cpu
    model: Name | None = None
    replicas: Annotated[Count, Field(ge=1, le=1000)] = 1
    stateful: Switch = False
    nodes: tuple[str, ...] = ()


class Edge(_Strict):
    """The calls that one agent makes to another.

    - `source`, `target`: names of the agent that calls and of the one that answers.
    - `protocol`: what they speak.
    - `volume`: MB per request, both ways; above 0.
    - `rate`: requests per second; above 0.

    **Example:**

        >>> edge = sj.deploy.Edge(source="guide", target="critic", volume=0.5, rate=20)
        >>> edge.volume * edge.rate, edge.protocol  # MB/s
        (10.0, 'http')
    """

    source: Name
    target: Name
    protocol: Literal["http", "grpc", "libp2p"] = "http"
    volume: Annotated[Number, Field(gt=0)]
    rate: Annotated[Number, Field(gt=0)] = 1.0


class ClusterNode(_Strict):
    """What a node of the cluster offers.

    - `name`: that of `kubectl get nodes`.
    - `memory`, `cpu`: quantities of bytes and of cores.
    - `rack`, `zone`: which `Link` of the `Network` leads to another node.
    - `base`: quantity of bytes that a node's runtime takes once it is used.

    **Example:**

        >>> node = sj.deploy.ClusterNode(name="worker-1", memory="16Gi", cpu=4, zone="a")
        >>> node.cpu, node.base
        ('4', '64Mi')
    """

    name: NodeName
    memory: Bytes
    cpu: Cpu
    rack: str = ""
    zone: str = ""
    base: Bytes = "64Mi"


class Link(_Strict):
    """Latency, in ms, and bandwidth, in Gbps, between two nodes; at least and above 0.

    **Example:**

        >>> link = sj.deploy.Link(latency_ms=1, bandwidth_gbps=4)
        >>> link.latency_ms / link.bandwidth_gbps  # the network cost of Eq. 13
        0.25
    """

    latency_ms: Annotated[Number, Field(ge=0)]
    bandwidth_gbps: Annotated[Number, Field(gt=0)]


class Network(_Strict):
    """Links in a rack, in a zone, and between zones (`region`).

    **Example:**

        >>> slow = sj.deploy.Link(latency_ms=30, bandwidth_gbps=1)
        >>> network = sj.deploy.Network(region=slow)
        >>> network.region.latency_ms, network.zone.latency_ms  # the default within a zone
        (30.0, 0.25)
    """

    rack: Link = Link(latency_ms=0.05, bandwidth_gbps=25)
    zone: Link = Link(latency_ms=0.25, bandwidth_gbps=10)
    region: Link = Link(latency_ms=1.0, bandwidth_gbps=4)


class JaxJob(_Strict):
    """A JAX program on several hosts.

    - `image`, `command`: what runs on each of them; 1 to 64 words.
    - `processes`: number of hosts, 1 to 10,000.
    - `memory`, `cpu`: quantities of bytes, at least 6 MiB, and of cores, of each process.
    - `carrier`: an Indexed Job, or a JobSet, which the cluster has to know.

    **Example:**

        >>> what = dict(image="registry/train:1", command=("python", "train.py"))
        >>> job = sj.deploy.JaxJob(name="train", processes=4, memory="8Gi", cpu=4, **what)
        >>> flow = sj.deploy.default_workflow().model_copy(update={"jobs": (job,)})
        >>> "completions: 4" in sj.deploy.compile(flow)["manifests/20-train.yaml"]
        True
    """

    name: Name
    image: Image
    command: tuple[Word, ...] = Field(min_length=1, max_length=64)
    processes: Annotated[Count, Field(ge=1, le=10_000)]
    memory: Memory
    cpu: Cpu
    carrier: Literal["job", "jobset"] = "job"


class Workflow(_Strict):
    """A workflow of agents and the cluster to place it on.

    - `agents`: 1 to 10,000; `edges`: up to 200,000, one from one agent to another.
    - `nodes`: without any, no placement is made.
    - `cycles`: whether agents may call each other in a circle.
    - `lambda_mem`: weight of the memory overhead in Eq. 11, at least 0.

    **Raises:** `pydantic.ValidationError`, a `ValueError`, for names that are unknown or
    given twice, and for cycles unless `cycles` is true.

    **Example:**

        >>> what = dict(entry="app:answer", memory="1Gi", cpu=1)
        >>> agents = tuple(sj.deploy.Agent(name=n, **what) for n in ("guide", "critic"))
        >>> edge = sj.deploy.Edge(source="guide", target="author", volume=0.5)
        >>> sj.deploy.Workflow(name="tour", agents=agents, edges=(edge,))
        Traceback (most recent call last):
        pydantic_core...ValidationError: ... Got 'author'. Choose of: guide, critic ...
    """

    name: Name
    namespace: Name = "default"
    agents: tuple[Agent, ...] = Field(min_length=1, max_length=10_000)
    edges: tuple[Edge, ...] = Field(default=(), max_length=200_000)
    models: tuple[SharedModel, ...] = ()
    jobs: tuple[JaxJob, ...] = ()
    nodes: tuple[ClusterNode, ...] = ()
    network: Network = Network()
    cycles: Switch = False
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
