"""Damaged workflows and manifests are refused in a line, whatever the damage."""

import random
import re
from pathlib import Path

import pytest
import yaml

from sedma_jax import deploy
from sedma_jax._cli.main import main
from sedma_jax.deploy._workflow import yaml_files

ROOT = Path(__file__).parents[2]
WORKFLOW = (ROOT / "docs/refinement/workflow.yaml").read_text()
MANIFESTS = [
    path.read_text()
    for path in sorted((ROOT / "tests/data/refinement/manifests").glob("*.yaml"))
]
TAGS = "bool int float null str timestamp merge value binary omap pairs set seq map".split()
PIECES = [f"!!{tag} " for tag in TAGS]
PIECES += [f'!!{tag} ""' for tag in TAGS]
PIECES += [f"!!{tag} x" for tag in TAGS]
PIECES += [
    "? [a, b]\n",
    "? {a: b}\n: c\n",
    "<<: {a: b}\n",
    "<<: a\n",
    "=: a\n",
    "&a ",
    "*a",
]
PIECES += [
    "---\n",
    "...\n",
    "%YAML 2.0\n",
    "!x ",
    "!<tag:yaml.org,2002:int> ",
    "|\n",
    ">-\n",
]
PIECES += [r'"\ud800"', r'"\0"', r'"\x07"', "\t", "\x00", "\x1b[2J", "\u2028", "\ufeff"]
PIECES += ["9" * 5000, "0x" + "f" * 5000, "1e999", "1:59:59", "2001-99-99", ".inf", "~"]
PIECES += [
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    "'",
    '"',
    "#",
    "- ",
    "? ",
    "\n",
    "[" * 50,
    "- " * 50,
]


def mutant(text, draw):
    """The text with one to three changes."""
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(text))
        values = [m.span(1) for m in re.finditer(r"[:\-] +([^\s{][^,}\n]*)", text)]
        match draw.randrange(5):
            case 0:
                text = text[:at] + draw.choice(PIECES) + text[at:]
            case 1:
                text = text[:at] + text[at + draw.randint(1, 20) :]
            case 2:  # a value becomes another
                first, last = draw.choice(values or [(at, at)])
                text = text[:first] + draw.choice(PIECES) + text[last:]
            case 3:  # a value gets a tag
                first, _ = draw.choice(values or [(at, at)])
                text = text[:first] + f"!!{draw.choice(TAGS)} " + text[first:]
            case 4:
                lines = text.splitlines(keepends=True)
                lines.insert(draw.randrange(len(lines)), draw.choice(lines))
                text = "".join(lines)
        text = text or "a"
    return text


def refused_or_compiled(text):
    """Whether a workflow is refused; each line of the refusal names the file."""
    try:
        deploy.compile(deploy.parse_workflow(text, "w.yaml"))
    except ValueError as error:
        lines = str(error).split("\n")
        assert all(line.startswith("w.yaml:") for line in lines), text
        assert max(map(len, lines)) < 400
        assert all(line.isprintable() for line in lines), text
        return True
    return False


def check_workflows(seeds):
    return sum(refused_or_compiled(mutant(WORKFLOW, random.Random(s))) for s in seeds)


def check_manifests(seeds, path, capsys):
    refused = 0
    for seed in seeds:
        draw = random.Random(seed)
        text = mutant(draw.choice(MANIFESTS), draw)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        status = main(["deploy", "validate", str(path)])
        said = capsys.readouterr()
        assert status in (0, 1, 2), text
        assert max(map(len, (said.out + said.err).splitlines()), default=0) < 1000, text
        assert (status == 2) == (said.err.startswith(f"sedma: {path}")), (text, said.err)
        refused += status > 0
    return refused


def test_damaged_workflows_are_refused_in_lines():
    assert check_workflows(range(300)) > 100


def test_damaged_manifests_are_refused_in_lines(tmp_path, capsys):
    assert check_manifests(range(150), tmp_path / "m.yaml", capsys) > 50


@pytest.mark.slow
def test_3000_damaged_workflows_and_manifests(tmp_path, capsys):
    assert check_workflows(range(300, 3300)) > 1000
    assert check_manifests(range(150, 3150), tmp_path / "m.yaml", capsys) > 1000


@pytest.mark.parametrize(
    "text",
    [
        "lambda_mem: 1" + ":59" * 100_000,  # 41 s
        "lambda_mem: " + "1" * 10**6,  # 11 s
        "lambda_mem: 0x" + "f" * 10**6,
        "name: " + "a" * 10**6,
        '"' + "a" * 10**6 + '": 1',
        "!" + "a" * 10**5 + " x",
    ],
)
def test_an_endless_value_is_refused_in_a_short_line(text, tmp_path, capsys):
    with pytest.raises(ValueError) as caught:
        deploy.parse_workflow(text, "w.yaml")
    assert max(map(len, str(caught.value).splitlines())) < 400
    (tmp_path / "m.yaml").write_text(text)
    assert main(["deploy", "validate", str(tmp_path / "m.yaml")]) in (1, 2)
    said = capsys.readouterr()
    assert max(map(len, (said.out + said.err).splitlines())) < 1000


def test_yaml_goes_through_libyaml_where_it_is_there():
    """10,000 agents in 539 kB took 97 s, most of it in PyYAML's own parser and emitter."""
    assert yaml.__with_libyaml__, "the wheels of PyYAML have it"
    assert issubclass(yaml_files._KubectlLoader, yaml.CSafeLoader)
    assert issubclass(yaml_files._Dumper, yaml.CSafeDumper)
