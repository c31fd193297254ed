"""The public names of the package, from the lists that are written by hand."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREES = {
    path: ast.parse(path.read_text())
    for folder in ("kernels", "sedma_jax")
    for path in sorted((ROOT / folder).rglob("*.py"))
}

# Files that users reach under the name of a module.
UNDER_ANOTHER_NAME = {
    "sedma_jax._public": "sedma_jax",
    "sedma_jax.nn._flax": "sedma_jax.nn.flax",
    "sedma_jax.nn._training.flax": "sedma_jax.nn.flax",
}


def module_name(path):
    """The dotted name by which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("sedma_jax", *parts) if parts[0] == "kernels" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def name_for_users(path):
    """The dotted name by which users reach the names of a file."""
    return UNDER_ANOTHER_NAME.get(module_name(path), module_name(path))


def docstring(tree, name):
    """The text that documents a name, in the file that defines it."""
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


def _is_public(path):
    private = any(part.startswith("_") for part in path.relative_to(ROOT).parts)
    named = module_name(path) in UNDER_ANOTHER_NAME and path.name != "_public.py"
    return named or not private


def _defined(node):
    """The public names that a statement at the top of a file defines."""
    named = getattr(node, "targets", [getattr(node, "target", node)])
    names = [getattr(n, "id", None) or getattr(n, "name", None) for n in named]
    return [name for name in names if name and name[0] != "_"]


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
        elif _is_public(path):
            yield from ((path, name) for name in _defined(node))


def public_modules():
    """The `(file, name)` that each public module hands on, by its name for users."""
    found = {}
    for path in TREES:
        names = [(source, name) for source, name in public_names(path) if name]
        if names:
            found.setdefault(name_for_users(path), []).extend(names)
    return found


def shown_names(module):
    """What `dir` has to show: what a module defines, hands on as `X as X`, or contains."""
    path = next(path for path in TREES if module == name_for_users(path))
    inside = (name.rpartition(".") for name in public_modules())
    found = {last for package, _, last in inside if package == module}
    for node in TREES[path].body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names if alias.asname == alias.name}
        else:
            found |= set(_defined(node))
    return found
