"""A workflow is read, or refused with the line and the remedy."""

import re
import subprocess
import sys

import pytest

from sedma_jax.deploy._placing.problem import distances
from sedma_jax.deploy._workflow.quantity import parse_quantity
from sedma_jax.deploy._workflow.specification import ClusterNode, Edge, Workflow
from sedma_jax.deploy._workflow.yaml_files import (
    load_documents,
    load_workflow,
    parse_workflow,
    to_yaml,
)

VALID = """\
name: tour
agents:
  - name: front
    entry: tour:front
    memory: 64Mi
    cpu: 100m
  - name: back
    entry: tour:back
    memory: 1e8
    cpu: 1
    model: words
models:
  - {name: words, memory: 2Gi}
edges:
  - source: front
    target: back
    volume: 0.5
nodes:
  - {name: n0, memory: 4Gi, cpu: 2}
"""


def test_a_valid_file_is_read(save):
    workflow = load_workflow(save("tour.yaml", VALID))
    assert [a.name for a in workflow.agents] == ["front", "back"]
    assert workflow.edges[0].protocol == "http" and workflow.agents[1].memory == "1e8"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("memory: 64Mi", "memory: 64MiB", 5, "Write 64Mi"),
        ("memory: 64Mi", "memory: 64mb", 5, "Write 64m"),
        ("memory: 64Mi", "memory: -1", 5, "positive"),
        ("target: back", "target: bakc", 16, "Choose of: front, back"),
        ("target: back", "target: front", 16, "two agents"),
        ("model: words", "model: word", 11, "Choose of: words"),
        ("name: back", "name: front", 7, "Rename one"),
        ("name: back", "name: Back", 7, "Rename it"),
        ("entry: tour:back", "entry: tour", 8, "module:function"),
        ("entry: tour:back", "entry: 'tour:x; import os'", 8, "module:function"),
        ("volume: 0.5", "volume: .nan", 17, "finite"),
        ("volume: 0.5", "volum: 0.5", 15, "volume"),
        ("cpu: 100m", "cpu: 100m\n    cpu: 1", 7, "twice"),
        ("cpu: 100m", "cpu: [1", 7, "YAML"),
        ("entry: tour:front", "entry: !!python/name:os.system", 4, "constructor"),
        ("entry: tour:front", "entry: &a tour:front", None, None),
        (
            "nodes:",
            "  - {source: back, target: front, volume: 1}\nnodes:",
            18,
            "back -> front",
        ),
    ],
)
def test_errors_name_the_line_and_the_remedy(old, new, line, says):
    text = VALID.replace(old, new, 1)
    assert text != VALID
    if line is None:
        assert parse_workflow(text)
        return
    with pytest.raises(ValueError) as caught:
        parse_workflow(text, "tour.yaml")
    assert f"tour.yaml:{line}:" in str(caught.value)
    assert says in str(caught.value)


WORDS = "0012 1.10 1e3 0100 0x1f 1:30 1_000 no on yes y true null ~ 2024-01-01 .5 -0 .inf"


@pytest.mark.parametrize("word", WORDS.split())
def test_text_is_kept_as_written_or_refused(word):
    """YAML 1.1 would make numbers, truth, nothing and dates of these."""
    text = VALID.replace("{name: n0,", f"{{name: n0, zone: {word}, rack: {word},")
    text += f"jobs:\n  - {{name: t, image: a, command: [p, {word}], processes: 1, "
    text += "memory: 64Mi, cpu: 1}\n"
    if word in ("null", "~"):
        with pytest.raises(ValueError, match=r":19: nodes\.0\.rack: .* in quotes"):
            parse_workflow(text)
        text = re.sub(rf"([:,]) {word}([,\]])", rf"\1 '{word}'\2", text)
    workflow = parse_workflow(text)
    (node,), (job,) = workflow.nodes, workflow.jobs
    assert (node.zone, node.rack, job.command[1]) == (word, word, word)
    assert Workflow.model_validate_json(workflow.model_dump_json()) == workflow


def test_names_that_look_like_numbers_stay_apart():
    two = "nodes:\n  - {name: 0012, memory: 4Gi, cpu: 2, zone: 1.10}\n"
    two += "  - {name: 1e3, memory: 4Gi, cpu: 2, zone: 1.1}\n"
    workflow = parse_workflow(VALID[: VALID.index("nodes:")] + two)
    assert [(n.name, n.zone) for n in workflow.nodes] == [("0012", "1.10"), ("1e3", "1.1")]
    # The default region's 1 ms / 4 Gbps: they are in two zones.
    assert distances(workflow)[0, 1] == 0.25


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("volume: 0.5", "volume: true", "decimal digits"),
        ("volume: 0.5", "volume: 0100", "decimal digits"),
        ("volume: 0.5", "volume: 1:30", "decimal digits"),
        ("volume: 0.5", "volume: '1_000'", "decimal digits"),
        ("volume: 0.5", "volume: 0x10", "decimal digits"),
        ("cpu: 100m", "cpu: 100m, replicas: true", "decimal digits"),
        ("cpu: 100m", "cpu: 100m, replicas: 010", "decimal digits"),
        ("cpu: 100m", "cpu: 100m, stateful: 1", "true or false"),
        ("cpu: 100m", "cpu: 010", "leading 0"),
        ("cpu: 100m", "cpu: 1n", "100m"),
        ("cpu: 100m", "cpu: yes", "quantity"),
        ("cpu: 100m", "cpu: \u0663", "quantity"),  # a digit, but not of Kubernetes
        ("memory: 64Mi", "memory: 500m", "0.5 bytes. Write 500M"),
        ("memory: 64Mi", "memory: 0.1", "bytes"),
        ("memory: 64Mi", "memory: 0100Mi", "leading 0"),
        ("memory: 64Mi", "memory: 5Mi", "6291456"),  # Docker's least
        ("memory: 64Mi", "memory: 8Ei", "9223372036854775807"),
        ("name: front", "name: default", "ServiceAccount"),
        ("name: front", "name: kubernetes", "API server"),
        ("name: front", "name: tour-default-deny", "the policy"),
        ("name: front", "name: sedma-record-tour", "the record"),
        ("name: front", "name: localhost", "every host"),
        ("'a:b'", "'serve:b'", "compiled server"),
        ("'a:b'", "'serve.a:b'", "compiled server"),
        ("name: front", "image: a//b, name: front", "image"),
    ],
)
def test_what_would_be_another_number_or_never_run_is_refused(old, new, says):
    front = "{name: front, entry: 'a:b', memory: 64Mi, cpu: 100m}"
    assert front.count(old) == 1 or "volume" in old
    text = "name: tour\nagents:\n  - " + front.replace(old, new) + "\n"
    text += "  - {name: back, entry: 'a:b', memory: 64Mi, cpu: 100m}\n"
    if "volume" in old:
        text += f"edges:\n  - {{source: front, target: back, {new}}}\n"
    with pytest.raises(ValueError) as caught:
        parse_workflow(text, "w.yaml")
    (line,) = str(caught.value).splitlines()
    assert says in line and line.startswith(f"w.yaml:{6 if 'volume' in old else 3}: ")


def test_a_second_edge_of_two_agents_is_refused():
    """`call` names the agent alone, so that one protocol would be lost."""
    more = "  - {source: front, target: back, volume: 1, protocol: grpc}\nnodes:"
    with pytest.raises(ValueError, match=r":18: edges\.1: .*\(http and grpc\)"):
        parse_workflow(VALID.replace("nodes:", more))


def test_names_that_grow_too_long_are_refused():
    job = "jobs:\n  - {name: NAME, image: a, command: [p], processes: COUNT, memory: 64Mi, "
    job = VALID + job + "cpu: 1, carrier: jobset}\n"
    fits = job.replace("NAME", "j" * 47).replace("COUNT", "10")  # 47 + 16 are 63
    assert parse_workflow(fits)
    with pytest.raises(ValueError, match="Shorten the name by 1"):
        parse_workflow(fits.replace("processes: 10", "processes: 11"))


def test_numbers_of_python_are_quantities_and_no_names():
    given = {"name": "n0", "memory": 2**32, "cpu": 0.5}
    assert ClusterNode(**given).memory == "4294967296"
    for field, value in (("name", 12), ("zone", 1.10), ("cpu", True)):
        with pytest.raises(ValueError, match=field):
            ClusterNode(**(given | {field: value}))
    with pytest.raises(ValueError, match="volume"):
        Edge(source="a", target="b", volume=True)


def test_manifests_are_read_as_kubectl_reads_them(save):
    """By go-yaml 2's rules: no dates, nothing to base 60, exponents without a dot."""
    plain = "{a: 2024-01-01, b: 1:30, c: 1e3, d: 0100, e: 08, f: 1_000, g: yes, h: 0o17}"
    ((found, _),) = load_documents(save("m.yaml", plain))
    expected = ["2024-01-01", "1:30", 1000, 64, 8, 1000, True, 15]
    assert list(found.values()) == expected
    with pytest.raises(ValueError, match="needs to be text"):
        load_documents(save("m.yaml", "{[a]: b}"))


def test_cycles_are_taken_where_the_workflow_says_so():
    text = VALID.replace("nodes:", "  - {source: back, target: front, volume: 1}\nnodes:")
    assert len(parse_workflow(text + "cycles: true\n").edges) == 2


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"", b"[]", b"- a", b"&a [*a]", b"[" * 10_000, b"a: b: c"]
)
def test_what_is_no_workflow_is_refused(content):
    with pytest.raises(ValueError, match="workflow"):
        parse_workflow(content)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"No such file.*Check the path"):
        load_workflow(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", 0.5), ("2Gi", 2**31), ("1e9", 1e9), ("1E2", 100), ("1.5k", 1500), (3, 3)],
)
def test_quantities(text, value):
    assert float(parse_quantity(text)) == value


@pytest.mark.parametrize(
    "text", ["2GiB", "", "Gi", "1 Gi", "0x10", "1e999", "9" * 99, "1ki"]
)
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match="quantity"):
        parse_quantity(text)


def test_text_that_yaml_1_1_takes_for_something_else_is_quoted():
    words = [
        "no",
        "On",
        "1e3",
        "1_000",
        "0x1f",
        "12:30:00",
        "null",
        "~",
        "2026-01-01",
        "plain",
        "",
    ]
    written = to_yaml({"words": words})
    for word in words[:-2]:
        assert f'"{word}"' in written
    assert "- plain" in written
    import yaml

    assert yaml.safe_load(written) == {"words": words}


def test_a_missing_extra_is_named():
    code = """
import sys
sys.modules["pydantic"] = None
import sedma_jax
try:
    sedma_jax.deploy
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install '.[deploy]'" in done.stdout, done.stderr
