"""What a type checker and completion know of `sedma_jax`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import sedma_jax as sj

ROOT = Path(__file__).parents[2]
EXTRAS = {"comm", "data", "deploy", "linalg", "memory", "nn", "viz"}
SCRIPT = """\
import sedma_jax as sj

sj.deploy.Target(context="x")
sj.deploy.Target(contxt="x")
sj.viz.conductance_map
sj.viz.nothing
sj.nothing
sj.nn.flax.analogize
sj.nn.nothing
"""


def test_a_type_checker_finds_wrong_names_of_extras(tmp_path):
    # It does not follow the editable install, so it gets a tree of its own.
    shutil.copytree(ROOT / "sedma_jax", tmp_path / "sedma_jax")
    shutil.copytree(ROOT / "kernels", tmp_path / "sedma_jax" / "kernels")
    (tmp_path / "script.py").write_text(SCRIPT)
    settings = {"include": ["script.py"], "typeCheckingMode": "standard"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    checker = [sys.executable, "-m", "basedpyright", "--outputjson"]
    done = subprocess.run(
        [*checker, "--project", tmp_path, "--pythonpath", sys.executable],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [entry for entry in found if entry["severity"] == "error"]
    lines = [entry["range"]["start"]["line"] + 1 for entry in errors]
    assert lines == [4, 6, 7, 9], errors
    assert "contxt" in errors[0]["message"]


def test_completion_shows_the_public_names_only():
    names = dir(sj)
    assert EXTRAS <= set(names)
    hidden = {"TYPE_CHECKING", "import_module", "version", "typing"}
    assert not hidden & set(names)
    assert not [name for name in names if name.startswith("_")]


def test_drawing_is_imported_when_it_is_asked_for():
    code = (
        "import sys, sedma_jax as sj\n"
        "assert 'matplotlib' not in sys.modules\n"
        "sj.viz.conductance_map\n"
        "assert 'matplotlib' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
