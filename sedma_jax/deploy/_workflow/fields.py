"""Types of the fields of a workflow: text stays as it is written, numbers are decimal.

YAML 1.1 and 1.2 read `0100`, `1:30`, `1_000` and `yes` in two ways, so a field of a number
takes none of these. Text comes here as it stands in the file (see `yaml_files`).
"""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool

from .quantity import parse_quantity

_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,50}[a-z0-9])?")
_NODE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
# https://github.com/distribution/reference: [host[:port]/]path[:tag][@digest]
_IMAGE = re.compile(
    rf"(?:(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9.-]+(?=:[0-9]+/)|"
    rf"\[[0-9A-Fa-f:]+\])(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[a-z0-9]+:[0-9a-f]{32,128})?"
)
_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INFINITE = re.compile(r"[+-]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")  # refused in words later
_AMBIGUOUS = re.compile(r"[+-]?0[0-9].*")
_SWITCHES = {"true": True, "yes": True, "on": True} | dict.fromkeys(
    ("false", "no", "off"), False
)

_PAGE = 4096  # bytes; less is a slip of the suffix, such as 500m for 500M
_LEAST = 6 * 2**20  # bytes that Docker gives a container at least
_MOST = 2**63 - 1  # bytes: what the API server and Docker count with


def _label(name: str) -> str:
    if not _LABEL.fullmatch(name):
        raise ValueError(
            "a name needs 1 to 52 of a-z, 0-9 and '-', a letter first (it becomes the name "
            f"of objects and hosts). Got {name[:60]!r}. Rename it"
        )
    return name


def _node_name(name: str) -> str:
    if len(name) > 63 or not _NODE.fullmatch(name):
        raise ValueError(
            "a node needs the name that the cluster has for it: 1 to 63 of a-z, 0-9, '-' "
            f"and '.', a letter or digit at both ends. Got {name[:70]!r}. Take it from "
            "`kubectl get nodes`"
        )
    return name


def _matching(form: re.Pattern, needs: str) -> AfterValidator:
    def check(text: str) -> str:
        if len(text) > 255 or not form.fullmatch(text):
            raise ValueError(f"{needs}. Got {text[:60]!r}")
        return text

    return AfterValidator(check)


def _not_the_server(entry: str) -> str:
    if re.match(r"serve[.:]", entry):
        raise ValueError(
            "an entry point needs a module not named `serve`, as is the compiled "
            f"server. Got {entry[:60]!r}. Rename the module"
        )
    return entry


def _word(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError(f"a command needs words that are not empty. Got {text[:60]!r}")
    return text


def _text_of_number(value: object) -> object:
    """A quantity may be given as a number of Python; True is none."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if plain else value


def _quantity(text: str) -> Decimal:
    if _AMBIGUOUS.fullmatch(text):
        raise ValueError(
            "a quantity needs no leading 0, which some readers of YAML take for a number "
            f"to base 8. Got {text[:40]!r}. Write {text.lstrip('+-0')[:40] or '0'}"
        )
    value = parse_quantity(text)
    if value <= 0:
        raise ValueError(f"a quantity needs to be positive. Got {text!r}. Write 1m or more")
    return value


def _cpu(text: str) -> str:
    value = _quantity(text)
    if not Decimal("0.001") <= value <= _MOST / 1000:
        raise ValueError(
            f"a number of cores needs to be 1m (0.001) to 9.2e15. Got {text!r}. Write 100m "
            "for a tenth of a core"
        )
    return text


def _at_least(least: int) -> AfterValidator:
    def check(text: str) -> str:
        value = _quantity(text)
        if not least <= value <= _MOST:
            meant = text[:-1] + "M" if text.endswith("m") else "64Mi"
            raise ValueError(
                f"a size of memory needs {least} to {_MOST} bytes. Got {text!r}, which is "
                f"{value.normalize()} bytes. Write {meant}"
            )
        return text

    return AfterValidator(check)


def _number(form: re.Pattern, example: str) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, bool):
            raise ValueError(f"a number is needed. Got {value}. Write {example}")
        if not isinstance(value, str):
            return value
        if _INFINITE.fullmatch(value):
            return float(value.replace(".", "", 1))
        if len(value) > 40 or not form.fullmatch(value):
            raise ValueError(
                "a number needs decimal digits, without a leading 0, '_' or ':'. Got "
                f"{value[:40]!r}. Write it as {example}"
            )
        return float(value) if form is _DECIMAL else int(value)

    return BeforeValidator(check)


def _switch(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _SWITCHES:
        return _SWITCHES[value.lower()]
    raise ValueError(f"true or false is needed. Got {str(value)[:40]!r}. Write one of them")


Name = Annotated[str, AfterValidator(_label)]
NodeName = Annotated[str, AfterValidator(_node_name)]
Word = Annotated[str, AfterValidator(_word)]
Cpu = Annotated[str, BeforeValidator(_text_of_number), AfterValidator(_cpu)]
Bytes = Annotated[str, BeforeValidator(_text_of_number), _at_least(_PAGE)]
Memory = Annotated[str, BeforeValidator(_text_of_number), _at_least(_LEAST)]
EntryPoint = Annotated[
    str,
    _matching(_ENTRY, "an entry point needs the form module:function"),
    AfterValidator(_not_the_server),
]
Image = Annotated[str, _matching(_IMAGE, "an image needs the form registry/name:tag")]
Count = Annotated[int, _number(_WHOLE, "2")]
Number = Annotated[float, _number(_DECIMAL, "0.5"), Field(allow_inf_nan=False)]
Switch = Annotated[StrictBool, BeforeValidator(_switch)]
