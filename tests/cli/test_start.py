"""What the command and the package import before they are asked for work."""

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import sedma_jax as sj
from sedma_jax._cli._terminal import device_names as device_names
from sedma_jax._products.correction import BASELINE_LAMBDA

SEDMA = [sys.executable, "-m", "sedma_jax._cli"]
LARGE = {"jax", "jaxlib", "equinox", "jaxtyping", "numpy", "scipy", "rich"}
EXTRAS = {"comm", "data", "deploy", "linalg", "memory", "nn", "viz"}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("--help", 0),
        ("--version", 0),
        ("", 2),
        ("run", 2),
        ("run A.npy --seed x", 2),
        ("job submit A.npy --device nothing", 2),
        ("deploy plan W.yaml --seed -1", 2),
        ("bench list", 0),
    ],
)
def test_a_command_that_computes_nothing_imports_no_large_library(arguments, status):
    command = [sys.executable, "-X", "importtime", *SEDMA[1:], *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time")]
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "argparse" in names and not LARGE & names


def test_no_help_of_a_command_imports_a_large_library():
    program = (
        "import argparse, sys\n"
        "from sedma_jax._cli.main import _parser\n"
        "def walk(parser):\n"
        "    parser.format_help()\n"
        "    for action in parser._actions:\n"
        "        if isinstance(action, argparse._SubParsersAction):\n"
        "            yield from (sub for p in action.choices.values() for sub in walk(p))\n"
        "    yield parser\n"
        "print(len(list(walk(_parser()))))\n"
        f"print(*{LARGE!r} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    count, imported = done.stdout.split("\n")[:2]
    assert int(count) > 25 and imported == ""


def test_what_the_options_say_without_jax_is_what_the_library_has(capsys):
    assert device_names.PRESETS == tuple(sj.devices.PRESETS)
    assert device_names.PULSED == tuple(sj.devices.PULSED)
    done = subprocess.run([*SEDMA, "run", "--help"], capture_output=True, text=True)
    assert f"{BASELINE_LAMBDA:g}" in done.stdout


def test_the_package_imports_what_is_asked_for():
    program = (
        "import sys, sedma_jax as sj\n"
        "assert not {'jax', 'numpy'} & set(sys.modules)\n"
        "try: sj._nothing\n"
        "except AttributeError: pass\n"
        "assert 'jax' not in sys.modules\n"
        "from sedma_jax import program\n"
        "assert sj.program is program and 'program' in vars(sj)\n"
        "names = {}\n"
        "exec('from sedma_jax import *', names)\n"
        "assert names['Device'] is sj.Device and 'comm' not in names\n"
        "assert 'alembic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_every_public_name_is_there_and_no_other():
    tree = ast.parse(Path(sj.__file__).with_name("_public.py").read_text())
    written = {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    } | {"rewrite_law"}
    hook = {"jaxtyping"}  # of the tests: it imports itself into what it checks
    assert set(dir(sj)) - hook == written | EXTRAS
    for name in written:
        assert getattr(sj, name) is not None
    assert sj.__version__ and set(sj.__all__) - hook == written
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        sj.nothing  # noqa: B018
    with pytest.raises(ImportError, match="nothing"):
        exec("from sedma_jax import nothing")
    assert pickle.loads(pickle.dumps(sj.ADC(8))) == sj.ADC(8)


def test_version_is_that_of_the_package():
    done = subprocess.run(
        [*SEDMA, "--version"], capture_output=True, text=True, env=os.environ
    )
    assert done.stdout == f"sedma {sj.__version__}\n"
