"""Read YAML, with the line of every field, and write YAML that 1.1 and 1.2 read alike."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.constructor import SafeConstructor
from yaml.representer import SafeRepresenter

from ..._files.read_files import read_regular, told
from ..._files.refusal import FileRefusal
from .._json import JsonObject
from .specification import Misplaced, Workflow

_TAG = "tag:yaml.org,2002:"
# Tags that plain text is given. An explicit tag changes nothing: the field has a type.
_SCALARS = {f"{_TAG}{t}" for t in ("bool", "float", "int", "null", "str", "timestamp")} | {
    f"{_TAG}merge",
    f"{_TAG}value",
}
_LARGEST_BYTES = 2**24
_DEEPEST = 40
_MOST_DIGITS = 400  # of a number; the largest that a computer holds has 309
_SAFE = re.compile(r"[A-Za-z_/][\w./-]*( [\w./-]+)*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"}


def load_workflow(path: str | Path) -> Workflow:
    """Read a workflow from a YAML file.

    **Raises:** `ValueError` with one line per error: file, line, field, what it needs,
    what was received, and the remedy.

    **Example:**

        >>> from pathlib import Path
        >>> agent = "{name: guide, entry: 'app:answer', memory: 1GB, cpu: 1}"
        >>> _ = Path("tour.yaml").write_text("name: tour\\nagents: [" + agent + "]")
        >>> sj.deploy.load_workflow("tour.yaml")
        Traceback (most recent call last):
        ValueError: tour.yaml:2: agents.0.memory: ... Got '1GB'. Write 1G.
    """
    return parse_workflow(_read(Path(path)), str(path))


def load_documents(path: str | Path) -> list[tuple[object, Callable[[tuple], int]]]:
    """Read the documents of a YAML file, each with a function that gives a path's line.

    **Raises:** `ValueError` for a file that cannot be read, is too large, or is not YAML.
    """
    name, content = str(path), _read(Path(path))
    try:
        nodes = _composed(content, _KubectlLoader)
        return [
            (_KubectlLoader("").construct_document(node), partial(_line, node))
            for node in nodes
            if node is not None and node.tag != "tag:yaml.org,2002:null"
        ]
    except _UNREADABLE as error:
        raise ValueError(_no_yaml(name, "manifests", error)) from error


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _LARGEST_BYTES)
    except FileRefusal as refused:
        raise told(refused, "`sedma deploy`", path) from refused.__cause__


# libyaml's, ten times as fast, wherever PyYAML was built with it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_UNREADABLE = (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError)


_MISFIT = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class _KubectlLoader(_Loader):
    """Reads plain text as kubectl does (go-yaml 2): no dates, no `1:30`, but `1e3`."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        """Construct a node; PyYAML lets other errors out of tags that do not fit."""
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except _MISFIT as error:
            kind = node.tag.removeprefix(_TAG)[:40]
            raise yaml.MarkedYAMLError(
                problem=f"{str(node.value)[:40]!r} is no {kind}",
                problem_mark=node.start_mark,
            ) from error


def _number(loader: SafeConstructor, node: yaml.Node) -> int | float:
    text = str(loader.construct_scalar(node)).replace("_", "").lower()  # pyright: ignore[reportArgumentType]
    digits = text.lstrip("+-")
    if len(digits) > _MOST_DIGITS:
        raise ValueError("too many digits")
    if digits[:2] in ("0x", "0o", "0b"):
        value = int(digits, 0)
    elif digits.isdigit():
        octal = digits.startswith("0") and not set(digits) & set("89")
        value = int(digits, 8 if octal else 10)
    else:
        value = float(digits.replace(".inf", "inf").replace(".nan", "nan"))
        if value.is_integer():
            value = int(value)  # JSON has no other way to write it
    return -value if text.startswith("-") else value


_KubectlLoader.yaml_implicit_resolvers = {
    first: [
        (tag, form)
        for tag, form in forms
        if tag.removeprefix(_TAG) not in ("int", "float", "timestamp")
    ]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_KubectlLoader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"([-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*"
        r"|(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))"
        r"|\.(nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)
for _kind in ("int", "float"):
    _KubectlLoader.add_constructor(_TAG + _kind, _number)


def _composed(content: bytes | str, loader: Any = _Loader) -> list[yaml.Node | None]:
    """The documents as trees of nodes, which keep their lines."""
    if isinstance(content, bytes):
        content = content.decode()
    _refuse_aliases(content)
    nodes = list(yaml.compose_all(content, Loader=loader))
    for node in nodes:
        _refuse_duplicates(node)
    return nodes


def _no_yaml(name: str, what: str, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return printable(f"{name}: a file needs UTF-8. Got {error}.")
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    said = " ".join(str(getattr(error, "problem", None) or error).split())
    return printable(f"{name}{line}: this is not YAML for {what}: {said[:300]}")


def printable(text: str) -> str:
    """The text with escapes for what would break a line or command a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def parse_workflow(content: bytes | str, name: str = "workflow") -> Workflow:
    """Read a workflow from YAML text; errors call it `name` instead of a file name.

    **Raises:** `ValueError` as `load_workflow`.

    **Example:**

        >>> agent = "{name: guide, entry: 'app:answer', memory: 1Gi, cpu: 0.5}"
        >>> flow = sj.deploy.parse_workflow("{name: tour, agents: [" + agent + "]}")
        >>> flow.agents[0].memory, flow.agents[0].replicas
        ('1Gi', 1)
    """
    try:
        root, *more = _composed(content) or [None]
        if more:
            raise ValueError("needs one document; take the others out")
        value = _as_written(root) if root else None
    except _UNREADABLE as error:
        raise ValueError(_no_yaml(name, "a workflow", error)) from error
    if root is None or not isinstance(value, dict):
        raise ValueError(
            f"{name}:1: a workflow needs fields such as `name:` and `agents:`. Got "
            f"{type(value).__name__}. See README for an example."
        )
    try:
        return Workflow.model_validate(value)
    except ValidationError as error:
        raise ValueError("\n".join(_errors(error, root, name))) from error


def _errors(error: ValidationError, root: yaml.Node, name: str) -> Iterator[str]:
    """One line per error, with the file, the line and the field."""
    found = error.errors(include_url=False)
    for item in found:
        at = item["loc"]
        inside = (other["loc"][: len(at)] == at != other["loc"] for other in found)
        if item["type"] == "too_short" and any(inside):
            continue  # it is short of what was refused
        cause = item.get("ctx", {}).get("error")
        place = cause.place if isinstance(cause, Misplaced) else item["loc"]
        field = ".".join(str(step)[:60] for step in place) or "workflow"
        said = item["msg"].removeprefix("Value error, ").rstrip(".")
        if not isinstance(cause, ValueError) and item["type"] != "missing":
            said += f". Got {str(item['input'])[:60]!r}"
        if item["type"] == "string_type" and item["input"] is None:
            said += ", which is nothing in YAML. Put text in quotes"
        yield printable(f"{name}:{_line(root, place)}: {field}: {said}.")


def _as_written(node: yaml.Node) -> object:
    """The value of a node with every scalar as its text: 0012, 1.10 and no stay so.

    A plain null is None. The type of a field decides what its text means, not YAML.
    """
    if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
        nothing = node.tag == f"{_TAG}null" and not node.style
        return None if nothing else node.value
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
        return [_as_written(value) for value in node.value]
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
        return {key.value: _as_written(value) for key, value in node.value}
    raise yaml.MarkedYAMLError(
        problem=f"could not determine a constructor for the tag {node.tag[:60]!r}; leave "
        "it out",
        problem_mark=node.start_mark,
    )


def _refuse_aliases(content: str) -> None:
    """Refuse aliases and deep nesting before anything is built."""
    depth = 0
    for event in yaml.parse(content, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="an alias (*) may make a file grow beyond any size; write it out",
                problem_mark=event.start_mark,
            )
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"more than {_DEEPEST} levels", problem_mark=event.start_mark
            )


def _refuse_duplicates(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="the name of a field needs to be text",
                    problem_mark=key.start_mark,
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the field {key.value[:60]!r} is given twice; take one out",
                    problem_mark=key.start_mark,
                )
            seen.add(key.value)
            _refuse_duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicates(value)


def _line(node: yaml.Node, place: tuple[str | int, ...]) -> int:
    """The line of the field at a path, or of the last step of it that is there."""
    line = node.start_mark.line
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == step]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line
        else:
            break
    return line + 1


class _Dumper(_SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: SafeRepresenter, text: str) -> yaml.ScalarNode:
    """Quote text that YAML 1.1 or 1.2 could take for something else."""
    if "\n" in text:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    plain = _SAFE.fullmatch(text) and text.lower() not in _WORDS
    style = None if plain else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(*documents: JsonObject) -> str:
    """Write documents, with fields in the order of the dictionaries."""
    return yaml.dump_all(
        documents,
        Dumper=_Dumper,
        sort_keys=False,
        width=100,
        explicit_start=len(documents) > 1,
    )
