"""A workflow is read, or refused with the line and the remedy."""

import subprocess
import sys

import pytest

from sedma_jax.deploy._workflow.quantity import parse_quantity
from sedma_jax.deploy._workflow.yaml_files import load_workflow, parse_workflow, to_yaml

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
    with pytest.raises(ValueError, match="Check its name"):
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
    assert "pip install 'sedma-jax[deploy]'" in done.stdout, done.stderr
