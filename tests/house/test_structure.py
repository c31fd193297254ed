"""Rules of the layout that no other tool checks."""

import ast
import configparser
import re
import sys
import tomllib
from graphlib import TopologicalSorter

import pytest
from public_names import ROOT, TREES, docstring, module_name, public_names

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
each_file = pytest.mark.parametrize(
    "path", TREES, ids=lambda path: path.relative_to(ROOT).as_posix()
)


EXTRAS = ("comm", "data", "deploy", "linalg", "memory", "nn", "viz")
LAYERS = ("kernels", "core", "extras", "run", "cli")  # the lowest first
# They hand on names of every layer, for users.
FACES = ("sedma_jax", "sedma_jax._public")


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


@each_file
def test_public_names_have_docstrings(path):
    assert ast.get_docstring(TREES[path])
    for source, name in public_names(path):
        tree = TREES[source]
        assert docstring(tree, name) if name else ast.get_docstring(tree), name


def lines_of_examples(path):
    """Lines that a file has more because of the examples in its docstrings."""
    definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    texts = [ast.get_docstring(n) for n in TREES[path].body if isinstance(n, definition)]
    strings = [getattr(node, "value", None) for node in TREES[path].body]
    texts += [s.value for s in strings if isinstance(s, ast.Constant)]
    count = 0
    for text in filter(None, texts):
        before, heading, example = str(text).partition("**Example:**")
        if heading:
            closing = "\n" not in before.strip()  # quotes that had no line of their own
            count += 1 + len(example.strip("\n").splitlines()) + 2 + closing
    return count


@each_file
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) - lines_of_examples(path) <= 400
