"""Server-side apply as the API server does it, for the kinds that `sedma deploy` uses.

A field is a path of `f:name` and `k:{...}` elements, as in `managedFields`.
`test_api_server.py` compares this with a sequence recorded from Kubernetes 1.36.2.
"""

import copy
import json

KEYS = {
    "containers": ["name"],
    "initContainers": ["name"],
    "volumes": ["name"],
    "env": ["name"],
    "schedulingGates": ["name"],
    "conditions": ["type"],
    "ownerReferences": ["uid"],
    "topologySpreadConstraints": ["topologyKey", "whenUnsatisfiable"],
}
ATOMIC = {
    "selector",
    "labelSelector",
    "podSelector",
    "nodeSelector",
    "requiredDuringSchedulingIgnoredDuringExecution",
    "configMapRef",
    "roleRef",
}
_IDENTITY = {"apiVersion", "kind"}
_SERVERS = {
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "generateName",
    "deletionTimestamp",
}


class Conflict(Exception):
    """Fields that other managers hold with another value."""

    def __init__(self, fields):
        self.fields = fields  # (manager, path) pairs


def keys_of(path):
    """Give the keys of the list at a path, None if the list is atomic."""
    name = path[-1].removeprefix("f:")
    if name == "ports":
        return ["containerPort" if "f:containers" in path else "port", "protocol"]
    return KEYS.get(name)


def element(keys, item):
    found = {k: item.get(k, "TCP" if k == "protocol" else None) for k in keys}
    return "k:" + json.dumps(found, separators=(",", ":"), sort_keys=True)


def field_set(value, path=()):
    """Give all fields that an object sets."""
    found = set()
    if isinstance(value, dict) and not (path and path[-1][2:] in ATOMIC):
        for key, item in value.items():
            if (not path and key in _IDENTITY) or (
                path == ("f:metadata",) and key in _SERVERS
            ):
                continue
            found |= field_set(item, (*path, f"f:{key}"))
        if not value:
            found.add(path)
    elif isinstance(value, list) and value and (keys := keys_of(path)):
        for item in value:
            here = (*path, element(keys, item))
            found.add(here)
            found |= field_set(item, here)
    else:
        found.add(path)
    return found


def look(value, path):
    """Give what an object has at a path, None if nothing."""
    for k, step in enumerate(path):
        if isinstance(value, dict):
            value = value.get(step[2:])
        elif isinstance(value, list):
            keys = keys_of(path[:k])
            value = next((i for i in value if keys and element(keys, i) == step), None)
        else:
            return None
    return value


def merge(old, new, path=()):
    if isinstance(old, dict) and isinstance(new, dict):
        if path and path[-1][2:] in ATOMIC:
            return copy.deepcopy(new)
        for key, item in new.items():
            old[key] = merge(old.get(key), item, (*path, f"f:{key}"))
        return old
    if isinstance(old, list) and isinstance(new, list) and (keys := keys_of(path)):
        at = {element(keys, item): k for k, item in enumerate(old)}
        for item in new:
            name = element(keys, item)
            if name in at:
                old[at[name]] = merge(old[at[name]], item, (*path, name))
            else:
                old.append(copy.deepcopy(item))
        return old
    return copy.deepcopy(new)


def prune(value, path, held):
    """Remove a field, and those of its parents that are empty then and nobody holds."""
    parent = look(value, path[:-1])
    if any(p[: len(path)] == path for p in held):
        return
    if isinstance(parent, dict):
        parent.pop(path[-1][2:], None)
    elif isinstance(parent, list):
        keys = keys_of(path[:-1])
        parent[:] = [item for item in parent if element(keys, item) != path[-1]]
    if len(path) > 1 and look(value, path[:-1]) in ({}, []):
        prune(value, path[:-1], held)


def to_fields(paths):
    root = {}
    for path in sorted(paths):
        node = root
        for step in path:
            node = node.setdefault(step, {})
        if any(len(p) > len(path) and p[: len(path)] == path for p in paths):
            node["."] = {}
    return root


def from_fields(fields, path=()):
    found = set()
    for key, inside in fields.items():
        if key == ".":
            found.add(path)
        elif inside:
            found |= from_fields(inside, (*path, key))
        else:
            found.add((*path, key))
    return found


def _sets(item):
    return {
        (e["manager"], e["operation"], e.get("subresource")): from_fields(e["fieldsV1"])
        for e in item.get("metadata", {}).get("managedFields", [])
    }


def _write_sets(item, sets, before, time):
    known = {
        (e["manager"], e["operation"], e.get("subresource")): e
        for e in (before or {}).get("metadata", {}).get("managedFields", [])
    }
    entries = []
    for who, paths in sorted(sets.items(), key=lambda s: (s[0][1], s[0][0])):
        if not paths:
            continue
        fields = to_fields(paths)
        if who in known and known[who]["fieldsV1"] == fields:
            entries.append(known[who])
            continue
        entry = {
            "manager": who[0],
            "operation": who[1],
            "apiVersion": item["apiVersion"],
            "time": time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        entries.append(entry | ({"subresource": who[2]} if who[2] else {}))
    item["metadata"]["managedFields"] = entries


def apply(live, body, manager, force, time):
    """Give the object after an apply, or raise `Conflict`."""
    wanted = field_set(body)
    sets = _sets(live) if live else {}
    me = (manager, "Apply", None)
    before = sets.get(me, set())
    differs = lambda path: (
        look(live, path) != look(body, path) and not path[-1].startswith("k:")
    )
    conflicts = [
        (who[0], path)
        for who, paths in sets.items()
        if who != me
        for path in sorted(paths & wanted)
        if differs(path)
    ]
    if conflicts and not force:
        raise Conflict(conflicts)
    for _, path in conflicts:
        for who in sets:
            if who != me:
                sets[who] = sets[who] - {path}
    item = merge(copy.deepcopy(live) if live else {}, body)
    sets[me] = wanted
    held = set().union(*sets.values())
    for path in sorted(before - wanted, key=len):
        if look(item, path) is not None:
            prune(item, path, held)
    _write_sets(item, sets, live, time)
    return item


def update(live, item, manager, time, subresource=None):
    """Note which manager changed what by a create, replace or patch."""
    sets = _sets(live) if live else {}
    after = field_set(item)
    changed = {p for p in after if not live or look(live, p) != look(item, p)}
    gone = field_set(live) - after if live else set()
    for who in sets:
        sets[who] = sets[who] - changed - gone
    me = (manager, "Update", subresource)
    sets[me] = sets.get(me, set()) | changed
    _write_sets(item, sets, live, time)
    return item
