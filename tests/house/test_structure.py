"""Rules of the layout that no other tool checks."""

import ast
import configparser
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TREES = {
    path: ast.parse(path.read_text())
    for folder in ("kernels", "sedma_jax")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
each_file = pytest.mark.parametrize(
    "path", TREES, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def import_names(requirements):
    names = (re.match(r"[\w-]+", text)[0].replace("-", "_") for text in requirements)
    modules = {
        "PyYAML": "yaml",
        "grpcio": "grpc",
        "pillow": "PIL",
        "protobuf": "google",
        "scikit_image": "skimage",
        "scikit_learn": "sklearn",
    }
    return {modules.get(name, name) for name in names}


@each_file
def test_dependencies_point_one_way(path):
    package, feature, *_ = *path.relative_to(ROOT).with_suffix("").parts, None
    if package == "kernels":
        allowed = {"jax", "equinox", "jaxtyping", "numpy"}
    else:
        # `memory/_redis.py` may import the extras `memory` and `redis`.
        names = {feature, path.stem.removeprefix("_")}
        extras = [PROJECT["optional-dependencies"].get(name, []) for name in names]
        allowed = import_names(sum(extras, PROJECT["dependencies"]))
    for name in imported(TREES[path]):
        if name.startswith("."):
            # More dots than there are folders would lead out of the kernels.
            dots = len(name) - len(name.lstrip("."))
            assert package != "kernels" or dots < len(path.relative_to(ROOT).parts)
        else:
            root = name.partition(".")[0]
            assert root in allowed | sys.stdlib_module_names, f"{name} is not allowed"


def test_every_package_is_listed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    folders = {path.parent.relative_to(ROOT).parts for path in TREES}
    on_disk = {
        ".".join(("sedma_jax", *parts) if parts[0] == "kernels" else parts)
        for parts in folders
    }
    assert set(setup["options"]["packages"].split()) == on_disk
    # A package without an entry of its own lies below its parent's folder.
    mapping = dict(re.findall(r"(\S+) = (\S+)", setup["options"]["package_dir"]))
    assert mapping == {"sedma_jax": "sedma_jax", "sedma_jax.kernels": "kernels"}


def docstring(tree, name):
    definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, definition) and node.name == name:
            return ast.get_docstring(node)
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if any(getattr(target, "id", None) == name for target in targets):
            # As documentation tools have it: the string after the assignment.
            text = isinstance(following, ast.Expr) and following.value
            return isinstance(text, ast.Constant) and text.value
    raise LookupError(f"{name} is not defined at the top of its module")


def public_names(path):
    """The `(file, name)` that a file makes public; the name of a module is None."""
    for node in TREES[path].body:
        if path.name == "__init__.py" and isinstance(node, ast.ImportFrom):
            for alias in node.names:
                module = (node.module or alias.name).replace(".", "/")
                source = path.parent / f"{module}.py"
                if alias.asname and source in TREES:  # else a package: it checks its own
                    yield source, alias.name if node.module else None
        elif not any(part.startswith("_") for part in path.relative_to(ROOT).parts):
            named = getattr(node, "targets", [getattr(node, "target", node)])
            names = [getattr(n, "id", None) or getattr(n, "name", None) for n in named]
            yield from ((path, name) for name in names if name and name[0] != "_")


@each_file
def test_public_names_have_docstrings(path):
    assert ast.get_docstring(TREES[path])
    for source, name in public_names(path):
        tree = TREES[source]
        assert docstring(tree, name) if name else ast.get_docstring(tree), name


@each_file
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 400
