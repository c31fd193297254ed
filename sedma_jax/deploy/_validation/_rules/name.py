"""Rules of names, ports, labels and metadata that the API server checks."""

import ipaddress
import re
from collections.abc import Collection, Iterable

from ..._json import JsonObject
from ..schema import Departures, Path

PROTOCOLS = {"TCP", "UDP", "SCTP"}
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")


def dns_label(path: Path, text: str, most: int = 63) -> Departures:
    """Yield unless `text` is a label of RFC 1123, of at most `most` characters."""
    if len(text) > most:
        yield path, f"needs at most {most} characters. Got {len(text)}"
    elif not _LABEL.fullmatch(text):
        yield path, f"needs a-z, 0-9 and '-' with no '-' at an end. Got {text!r}"


def dns_subdomain(path: Path, text: str) -> Departures:
    """Yield unless `text` is a subdomain of RFC 1123, of at most 253 characters."""
    if len(text) > 253:
        yield path, f"needs at most 253 characters. Got {len(text)}"
    elif not _SUBDOMAIN.fullmatch(text):
        yield (
            path,
            "needs a-z, 0-9, '-' and '.', with a letter or digit at both ends. "
            f"Got {text!r}",
        )


def path_segment(path: Path, text: str) -> Departures:
    """Yield unless `text` may stand between two slashes of a URL."""
    if text in (".", "..") or "/" in text or "%" in text:
        yield path, f"needs no '/' and no '%', and neither '.' nor '..'. Got {text[:80]!r}"


def port_name(path: Path, name: str) -> Departures:
    """Yield unless `name` is a service name of RFC 6335."""
    if len(name) > 15:
        yield path, f"needs at most 15 characters. Got {len(name)}"
    elif not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        yield path, f"needs a-z, 0-9 and single '-' between them. Got {name!r}"
    elif not re.search("[a-z]", name):
        yield path, f"needs a letter. Got {name!r}"


def port_number(path: Path, port: object) -> Departures:
    """Yield unless `port` is a number from 1 to 65535 or the name of a port."""
    if isinstance(port, str):
        yield from port_name(path, port)
    else:
        yield from between(path, port, 1, 65535)


def qualified_name(path: Path, text: str) -> Departures:
    """Yield unless `text` is a name with an optional `prefix/`."""
    prefix, slash, name = text.rpartition("/")
    if slash:
        yield from dns_subdomain(path, prefix)
    if len(name) > 63 or not _WORD.fullmatch(name):
        yield (
            path,
            "needs 1 to 63 letters, digits, '-', '_' and '.', with a letter or digit at "
            f"both ends. Got {name[:80]!r}",
        )


def label_map(path: Path, labels: JsonObject) -> Departures:
    """Yield for keys and values that cannot be labels."""
    for key, value in labels.items():
        yield from qualified_name(path, key)
        yield from label_value(path, value)


def label_value(path: Path, value: str) -> Departures:
    """Yield unless `value` may be the value of a label."""
    if len(value) > 63 or (value and not _WORD.fullmatch(value)):
        yield (
            path,
            "needs values of at most 63 letters, digits, '-', '_' and '.', with a "
            f"letter or digit at both ends. Got {value[:80]!r}",
        )


def selector(path: Path, selector: JsonObject) -> Departures:
    """Yield for a label selector that the server cannot read."""
    yield from label_map((*path, "matchLabels"), selector.get("matchLabels", {}))
    for k, term in enumerate(selector.get("matchExpressions", [])):
        at = (*path, "matchExpressions", k)
        yield from qualified_name((*at, "key"), term.get("key", ""))
        yield from requirement(at, term, {"In", "NotIn", "Exists", "DoesNotExist"})
        yield from label_values(at, term)


def label_values(path: Path, term: JsonObject) -> Departures:
    """Yield for values of a requirement that no label can have."""
    for k, value in enumerate(term.get("values", [])):
        yield from label_value((*path, "values", k), value)


def requirement(path: Path, term: JsonObject, operators: set[str]) -> Departures:
    """Yield for an operator that is unknown, or has the wrong number of values."""
    operator, values = term.get("operator"), term.get("values", [])
    if operator not in operators:
        yield (*path, "operator"), one_of(operators, operator)
    elif operator in ("In", "NotIn") and not values:
        yield (*path, "values"), f"is required if the operator is {operator}"
    elif operator in ("Exists", "DoesNotExist") and values:
        yield (*path, "values"), f"must be left out if the operator is {operator}"
    elif operator in ("Gt", "Lt") and len(values) != 1:
        yield (*path, "values"), f"needs one value if the operator is {operator}"


def matches(selector: JsonObject, labels: JsonObject) -> bool:
    """Whether a label selector matches an object with these labels."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for term in selector.get("matchExpressions", []):
        key, values = term.get("key"), term.get("values", [])
        holds = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not holds.get(term.get("operator"), True):
            return False
    return True


def choice(
    path: Path, value: object, allowed: Collection[str], *, empty: bool = False
) -> Departures:
    """Yield unless `value` is left out or allowed; `empty` if '' stands for a default."""
    if value is not None and value not in allowed and not (empty and value == ""):
        yield path, one_of(allowed, value)


def one_of(allowed: Iterable[str], value: object) -> str:
    """Say what is allowed, and what was received."""
    return f"needs one of {', '.join(sorted(allowed))}. Got {str(value)[:60]!r}"


def between(path: Path, value: object, least: int, most: int | None = None) -> Departures:
    """Yield unless `value`, where it is given, lies in a range, bounds included."""
    if isinstance(value, int) and (value < least or (most is not None and value > most)):
        upper = "" if most is None else f" and at most {most}"
        yield path, f"needs at least {least}{upper}. Got {value}"


def count(path: Path, value: object, *, at_most_all: bool = True) -> Departures:
    """Yield unless `value` is a number from 0 or a percentage, of at most 100 or any."""
    if isinstance(value, str):
        if not re.fullmatch("[0-9]+%", value):
            yield path, f"needs a number or a percentage such as 25%. Got {value[:80]!r}"
        elif at_most_all and (len(value) > 12 or int(value[:-1]) > 100):
            yield path, f"needs at most 100%. Got {value[:80]}"
    yield from between(path, value, 0)


def is_none(value: object) -> bool:
    """Whether a number or percentage is 0."""
    return value == 0 or (isinstance(value, str) and not value.rstrip("%").strip("0"))


def address(path: Path, text: str) -> Departures:
    """Yield unless `text` is an IP address, written as the server takes it."""
    try:
        if "%" in text:
            raise ValueError
        ipaddress.ip_address(text)
    except ValueError:
        yield path, f"needs an IP address. Got {text[:80]!r}"


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network that `text` names, if it is written as the server takes it."""
    if not re.fullmatch(r"[0-9a-fA-F:.]+/[0-9]{1,3}", text):
        return None
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None
