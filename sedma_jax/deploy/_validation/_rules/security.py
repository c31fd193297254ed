"""Rules of security contexts that the API server checks."""

from ..._json import JsonObject
from ..schema import Departures, Path
from .name import between, choice
from .volume import descending

LARGEST_ID = 2**31 - 1
_PROFILES = {"Localhost", "RuntimeDefault", "Unconfined"}


def pod_security(path: Path, context: JsonObject) -> Departures:
    """Yield for the security context of a pod."""
    yield from _common(path, context)
    yield from between((*path, "fsGroup"), context.get("fsGroup"), 0, LARGEST_ID)
    for k, group in enumerate(context.get("supplementalGroups", [])):
        yield from between((*path, "supplementalGroups", k), group, 0, LARGEST_ID)
    for name, allowed in (
        ("fsGroupChangePolicy", {"Always", "OnRootMismatch"}),
        ("supplementalGroupsPolicy", {"Merge", "Strict"}),
        ("seLinuxChangePolicy", {"MountOption", "Recursive"}),
    ):
        yield from choice((*path, name), context.get(name), allowed)


def container_security(path: Path, context: JsonObject) -> Departures:
    """Yield for the security context of a container."""
    yield from _common(path, context)
    mounted = context.get("procMount")
    yield from choice((*path, "procMount"), mounted, {"Default", "Unmasked"})
    if context.get("allowPrivilegeEscalation") is False:
        added = context.get("capabilities", {}).get("add", [])
        if context.get("privileged") or "CAP_SYS_ADMIN" in added:
            reason = "needs allowPrivilegeEscalation: true if privileged or CAP_SYS_ADMIN"
            yield path, reason


def _common(path: Path, context: JsonObject) -> Departures:
    for name in ("runAsUser", "runAsGroup"):
        yield from between((*path, name), context.get(name), 0, LARGEST_ID)
    for name in ("seccompProfile", "appArmorProfile"):
        if name in context:
            yield from _profile((*path, name), context[name])


def _profile(path: Path, profile: JsonObject) -> Departures:
    kind, file = profile.get("type"), profile.get("localhostProfile")
    yield from choice((*path, "type"), kind, _PROFILES)
    at = (*path, "localhostProfile")
    if kind == "Localhost":
        if not file:
            yield at, "is required if the type is Localhost"
        elif path[-1] == "seccompProfile":
            yield from descending(at, file)
        elif file != file.strip() or len(file) > 4095:
            yield at, "needs no spaces around it, and at most 4095 characters"
    elif file is not None:
        yield at, f"must be left out if the type is {kind}"
