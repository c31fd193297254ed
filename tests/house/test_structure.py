"""Rules of the layout that no other tool checks."""

import ast
import configparser
import re
import sys
import tomllib
from graphlib import TopologicalSorter
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


EXTRAS = ("comm", "data", "deploy", "linalg", "memory", "nn", "viz")
LAYERS = ("kernels", "core", "extras", "run", "cli")  # the lowest first
# They hand on names of every layer, for users.
FACES = ("sedma_jax", "sedma_jax._public")


def module_name(path):
    """The dotted name by which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("sedma_jax", *parts) if parts[0] == "kernels" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in TREES}


def import_statements(nodes):
    """The imports that run, inside functions too; those for type checkers alone do not."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from import_statements(node.orelse)
        else:
            yield from import_statements(ast.iter_child_nodes(node))


def imported_files(name):
    """The modules of ours that a module imports, by dotted name."""
    path = MODULES[name]
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in import_statements(TREES[path].body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
            continue
        base = package[: len(package) + 1 - node.level] if node.level else []
        module = ".".join([*base, *filter(None, [node.module])])
        for alias in node.names:
            # Either a module of the package that is named, or something inside it.
            found = f"{module}.{alias.name}"
            found = found if found in MODULES else module
            if found in MODULES and found != name:
                yield found


def room(name):
    """The layer of a module, and which extra it is of, if any."""
    first = name.removeprefix("sedma_jax.").partition(".")[0]
    if first in EXTRAS:
        return LAYERS.index("extras"), first
    named = {"kernels": "kernels", "_run": "run", "_cli": "cli"}
    return LAYERS.index(named.get(first, "core")), None


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


@pytest.mark.parametrize("name", [n for n in MODULES if n not in FACES])
def test_no_layer_imports_a_higher_one(name):
    layer, extra = room(name)
    for other in imported_files(name):
        assert other not in FACES, f"{name} imports the whole package"
        their_layer, their_extra = room(other)
        assert their_layer <= layer, f"{other} lies above {name}"
        strangers = {extra, their_extra} <= set(EXTRAS) and extra != their_extra
        assert not strangers, f"{name} imports {other}, another extra"


def test_no_files_import_each_other_in_a_circle():
    below = {name: set(imported_files(name)) for name in MODULES}
    TopologicalSorter(below).prepare()  # raises CycleError, which names the files


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
        face = path.name in ("__init__.py", "_public.py")
        if face and isinstance(node, ast.ImportFrom):
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
