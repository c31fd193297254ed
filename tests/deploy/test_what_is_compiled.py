"""Whatever `compile` writes passes `validate`, has one object per name, and can start."""

import random
import re
from collections import Counter

import pytest
import yaml

from sedma_jax import deploy
from sedma_jax.deploy._manifests.agent_objects import agent_objects
from sedma_jax.deploy._workflow.yaml_files import parse_workflow

# Words that YAML 1.1 or 1.2 reads as something else, and names that others have.
AGENTS = ("no", "y", "null", "on", "e1", "default", "kubernetes", "a", "b-c", "nan")
AGENTS += ("w-default-deny", "sedma-record-w", "system-a", "a" * 52, "x0", "call")
NAMESPACES = ("default", "system", "system-agents", "kube-system", "a-b", "a", "n" * 52)
NODES = ("0012", "1e3", "1.10", "12:30", "n0", "no", "0x1f", "n" * 63, "n" * 64, "UP")
MEMORIES = ("64Mi", "1G", "1e8", "500m", "0.1", "6Mi", "0100", "8Ei", "1.5G", "1_000M")
CPUS = ("1", "100m", "1m", "0.5", "1n", "1e-3", "010", ".5", "1:30")
IMAGES = ("local/a:1", "a", "r.io:5000/a/b@sha256:" + "0" * 64, "A:1", "a//b", "[::1]:5/a")


def drawn(draw):
    """The text of a workflow, most of its values plain ones."""
    some = lambda values, plain: draw.choice(values) if draw.random() < 0.06 else plain
    agents = [f"agent-{k}" for k in range(draw.randint(1, 4))]
    agents = [some(AGENTS, name) for name in agents]
    nodes = [some(NODES, f"n{q}") for q in range(draw.randint(0, 3))]
    lines = [f"name: {some(AGENTS, 'w')}", f"namespace: {draw.choice(NAMESPACES)}"]
    lines.append("agents:")
    for name in agents:
        fields = {
            "name": name,
            "entry": '"tour:f"',
            "memory": some(MEMORIES, "64Mi"),
            "cpu": some(CPUS, "100m"),
            "replicas": some(("1", "true", "0010", "1000", "2.0"), "2"),
            "stateful": some(("yes", "1", "off", "true"), "false"),
        }
        if draw.random() < 0.4:
            fields["image"] = f'"{some(IMAGES, "local/a:1")}"'
        if nodes and draw.random() < 0.3:
            fields["nodes"] = f"[{draw.choice(nodes)}]"
        lines.append(f"  - {{{', '.join(f'{k}: {v}' for k, v in fields.items())}}}")
    lines.append("edges:" if len(agents) > 1 else "cycles: no")
    for k, source in enumerate(agents[:-1]):
        target = draw.choice(agents[k + 1 :])
        for _ in range(1 + (draw.random() < 0.05)):
            protocol = draw.choice(("http", "grpc", "libp2p"))
            volume = some(("1e3", "true", "0100", "1:30", ".5", "1e-99"), "0.5")
            edge = f"source: {source}, target: {target}, volume: {volume}"
            lines.append(f"  - {{{edge}, protocol: {protocol}}}")
    if draw.random() < 0.3:
        carrier, count = draw.choice(("job", "jobset")), some(("1", "10000"), "4")
        name = some((*agents, "j" * 52), "train")
        lines.append("jobs:")
        lines.append(
            f'  - {{name: {name}, image: "local/t:1", command: [python, -c, 0010, no], '
            f"processes: {count}, memory: 64Mi, cpu: 1, carrier: {carrier}}}"
        )
    if nodes:
        lines.append("nodes:")
        lines += [f"  - {{name: {n}, memory: 4Gi, cpu: 2, zone: 1.10}}" for n in nodes]
    return "\n".join(lines) + "\n"


class Yaml12(yaml.SafeLoader):
    """Reads plain text by the core schema of YAML 1.2 (section 10.3.2)."""


Yaml12.yaml_implicit_resolvers = {}
for kind, form in (
    ("null", "null|Null|NULL|~|"),
    ("bool", "true|True|TRUE|false|False|FALSE"),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan"),
):
    tag = f"tag:yaml.org,2002:{kind}"
    Yaml12.add_implicit_resolver(tag, re.compile(f"({form})$"), None)


def wrong_of(workflow):
    """What is wrong with the files of a workflow."""
    files = deploy.compile(workflow)
    manifests = []
    for name, text in files.items():
        if name.endswith(".yaml"):
            found = list(yaml.safe_load_all(text))
            if found != list(yaml.load_all(text, Loader=Yaml12)):
                yield f"{name} is two things in YAML 1.1 and 1.2"
            manifests += found if name.startswith("manifests/") else []
    for agent in workflow.agents[:1] if workflow.nodes else ():
        nodes = [node.name for node in workflow.nodes]
        pinned = agent_objects(workflow, agent, nodes)
        yield from map(str, deploy.validate(pinned))
    yield from map(str, deploy.validate(manifests, namespaces=[workflow.namespace]))
    named = Counter((item["kind"], item["metadata"]["name"]) for item in manifests)
    yield from (f"{n} objects {name}" for name, n in named.items() if n > 1)
    reserved = {("Service", "kubernetes"), ("ServiceAccount", "default")}
    if workflow.namespace == "default" or ("ServiceAccount", "default") in named:
        yield from (f"{name} is taken" for name in reserved & named.keys())
    for name, service in yaml.safe_load(files["compose.yaml"])["services"].items():
        if not 6 * 2**20 <= int(service["mem_limit"]) < 2**63 or service["cpus"] < 0.01:
            yield f"compose: {name} cannot start"
    called = Counter((edge.source, edge.target) for edge in workflow.edges)
    maps = [item for item in manifests if item["kind"] == "ConfigMap"]
    data = {item["metadata"]["name"]: item["data"] for item in maps}
    for agent in workflow.agents:
        calls = sum(key.startswith("SEDMA_CALL_") for key in data[agent.name])
        if calls != sum(n for (source, _), n in called.items() if source == agent.name):
            yield f"an edge of {agent.name} is lost"


def check(seeds):
    accepted = 0
    for seed in seeds:
        text = drawn(random.Random(seed))
        try:
            workflow = parse_workflow(text, "w.yaml")
        except ValueError as error:
            assert all(re.match(r"w\.yaml:\d+: ", s) for s in str(error).splitlines()), text
            continue
        accepted += 1
        assert list(wrong_of(workflow)) == [], text
    return accepted


def test_what_is_compiled_of_drawn_workflows_is_valid():
    assert check(range(40)) >= 10


@pytest.mark.slow
def test_what_is_compiled_of_many_drawn_workflows_is_valid():
    assert check(range(40, 640)) >= 150
