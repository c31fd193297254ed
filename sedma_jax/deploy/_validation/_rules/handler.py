"""Rules of probes and of hooks of a container's life that the API server checks."""

import re

from ..._json import JsonObject
from ..schema import Departures, Path
from .name import between, choice, port_number

_PROBED = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOKED = ("exec", "httpGet", "tcpSocket", "sleep")


def probe(path: Path, item: JsonObject) -> Departures:
    """Yield for a probe at `path`, whose last step is its kind."""
    yield from _handler(path, item, _PROBED)
    # Zero means the default.
    for name in (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ):
        yield from between((*path, name), item.get(name), 0)
    if path[-1] != "readinessProbe" and item.get("successThreshold", 1) > 1:
        yield (*path, "successThreshold"), f"needs 1. Got {item['successThreshold']}"
    at, grace = (*path, "terminationGracePeriodSeconds"), "terminationGracePeriodSeconds"
    if grace in item and path[-1] == "readinessProbe":
        yield at, "must be left out of a readinessProbe, which ends nothing"
    else:
        yield from between(at, item.get(grace), 1)


def lifecycle(path: Path, item: JsonObject, grace: int) -> Departures:
    """Yield for hooks of a pod that has `grace` seconds to end."""
    for name in ("postStart", "preStop"):
        if name in item:
            yield from _handler((*path, name), item[name], _HOOKED)
            seconds = item[name].get("sleep", {}).get("seconds", 0)
            at = (*path, name, "sleep")
            yield from between(at, seconds, 0, max(grace, 1))


def _handler(path: Path, item: JsonObject, kinds: tuple[str, ...]) -> Departures:
    given = [name for name in kinds if name in item]
    if not given:
        yield path, f"needs one of {', '.join(kinds)}"
    for name in given[1:]:
        yield (*path, name), f"must be left out beside {given[0]}: one handler is allowed"
    # The server looks into the first alone.
    for name in given[:1]:
        at, handler = (*path, name), item[name]
        if name == "exec" and not handler.get("command"):
            yield (*at, "command"), "is required"
        if name in ("httpGet", "tcpSocket"):
            yield from port_number((*at, "port"), handler.get("port"))
        if name == "grpc":
            yield from between((*at, "port"), handler.get("port"), 1, 65535)
        if name == "httpGet":
            scheme = handler.get("scheme")
            yield from choice((*at, "scheme"), scheme, {"HTTP", "HTTPS"}, empty=True)
            for header in handler.get("httpHeaders", []):
                written = header.get("name", "")
                if not re.fullmatch("[-A-Za-z0-9]+", written):
                    reason = f"needs letters, digits and '-'. Got {written[:80]!r}"
                    yield (*at, "httpHeaders"), reason
