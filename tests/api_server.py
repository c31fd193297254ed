"""A double of the Kubernetes API server: HTTP on loopback, objects in memory.

`test_api_server.py` compares its answers to server-side apply with a recorded sequence; the
client that talks to it is the real one. `control_plane.py` adds the controllers and nodes.
Tests can make it fail: with an outage, or with statuses by method and path.
"""

import copy
import datetime
import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import kubernetes.client.models as models
import server_side_apply as ssa

KINDS = {  # plural: (API version, kind, namespaced, subresources)
    "namespaces": ("v1", "Namespace", False, []),
    "nodes": ("v1", "Node", False, ["status"]),
    "pods": ("v1", "Pod", True, ["status", "eviction", "resize"]),
    "events": ("v1", "Event", True, []),
    "configmaps": ("v1", "ConfigMap", True, []),
    "secrets": ("v1", "Secret", True, []),
    "services": ("v1", "Service", True, []),
    "serviceaccounts": ("v1", "ServiceAccount", True, []),
    "deployments": ("apps/v1", "Deployment", True, ["status", "scale"]),
    "statefulsets": ("apps/v1", "StatefulSet", True, ["status", "scale"]),
    "jobs": ("batch/v1", "Job", True, ["status"]),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget", True, []),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy", True, []),
    "priorityclasses": ("scheduling.k8s.io/v1", "PriorityClass", False, []),
    "leases": ("coordination.k8s.io/v1", "Lease", True, []),
    "roles": ("rbac.authorization.k8s.io/v1", "Role", True, []),
    "rolebindings": ("rbac.authorization.k8s.io/v1", "RoleBinding", True, []),
}
_PATH = re.compile(
    r"/(?:api/v1|apis/[^/]+/[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<part>[a-z]+))?)?"
)


class Refused(Exception):
    def __init__(self, status, message, reason="", causes=()):
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": status,
            "reason": reason,
            "message": message,
            "details": {"causes": list(causes)},
        }


def now():
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """Objects by plural, namespace and name, and every change in order."""

    def __init__(self):
        self.objects, self.log, self.version = {}, [], 100
        self.changed = threading.Condition(threading.RLock())
        self.oldest = 0  # watches of earlier versions have expired

    def get(self, plural, namespace, name):
        try:
            return self.objects[plural, namespace, name]
        except KeyError:
            group = KINDS[plural][0].partition("/")[0]
            full = f"{plural}.{group}" if "/" in KINDS[plural][0] else plural
            raise Refused(404, f'{full} "{name}" not found', "NotFound") from None

    def all(self, plural, namespace=None):
        return [
            item
            for (p, ns, _), item in sorted(self.objects.items())
            if p == plural and namespace in (None, ns)
        ]

    def put(self, plural, item):
        """Store an object; an object that does not change keeps its version."""
        meta = item["metadata"]
        key = plural, meta.get("namespace"), meta["name"]
        old = self.objects.get(key)
        if old:
            if _plain(old) == _plain(item):
                return old
            if old.get("spec") != item.get("spec"):
                meta["generation"] = old["metadata"].get("generation", 0) + 1
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        self.objects[key] = item
        self._note("MODIFIED" if old else "ADDED", plural, item)
        return item

    def drop(self, plural, item):
        meta = item["metadata"]
        if self.objects.pop((plural, meta.get("namespace"), meta["name"]), None):
            self.version += 1
            gone = copy.deepcopy(item)
            gone["metadata"]["resourceVersion"] = str(self.version)
            self._note("DELETED", plural, gone)
            for (p, _, _), other in list(self.objects.items()):
                owners = other["metadata"].get("ownerReferences", [])
                if any(o["uid"] == meta["uid"] for o in owners):
                    self.drop(p, other)

    def _note(self, event, plural, item):
        self.log.append((self.version, event, plural, copy.deepcopy(item)))
        self.changed.notify_all()


def _plain(item):
    meta = {k: v for k, v in item["metadata"].items() if k != "resourceVersion"}
    return item | {"metadata": meta}


class ApiServer:
    """Serve a store; `url` is its address."""

    def __init__(self):
        self.store = Store()
        self.down = 0  # requests whose connection is closed without an answer; or True: all
        self.faults = []  # [function of method, path, query; status; times; message]
        self.page = 10**9  # most items of one page of a list
        self.requests = []  # (method, path)
        self.usage = {"nodes": {}, "pods": {}}  # what the metrics API says
        self.grace = None  # None: a deleted pod goes at once; else its node drops it
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self):
                outer._serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.closed = False
        serve = lambda: self._http.serve_forever(poll_interval=0.02)
        threading.Thread(target=serve, daemon=True).start()
        with self.store.changed:
            for name in ("default", "kube-node-lease", "kube-system"):
                space = {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": name},
                }
                self.write("namespaces", None, None, _born(space), "double")

    def close(self):
        self.closed = True
        with self.store.changed:
            self.store.changed.notify_all()
        self._http.shutdown()
        self._http.server_close()

    def _serve(self, http):
        length = int(http.headers.get("Content-Length") or 0)
        content = http.rfile.read(length)
        if self.down:
            if self.down is not True:
                self.down -= 1
            http.close_connection = True
            return
        parts = urlsplit(http.path)
        query = {k: v[-1] for k, v in parse_qs(parts.query).items()}
        self.requests.append((http.command, parts.path))
        try:
            for fault in self.faults:
                applies, status, times, message = fault
                if times and applies(http.command, parts.path, query):
                    fault[2] -= 1
                    raise Refused(status, message)
            if query.get("watch", "").lower() == "true":
                return self._watch(http, parts.path, query)
            body = json.loads(content) if content else None
            status, answer = self._answer(http, parts.path, query, body)
        except Refused as refused:
            status, answer = refused.body["code"], refused.body
        data = json.dumps(answer).encode()
        http.send_response(status)
        http.send_header("Content-Type", "application/json")
        http.send_header("Content-Length", str(len(data)))
        http.end_headers()
        http.wfile.write(data)

    def _answer(self, http, path, query, body):
        if path.startswith("/apis/metrics.k8s.io/v1beta1/"):
            return 200, self._metrics(path.rpartition("/")[2])
        found = _discovery(path)
        if found is not None:
            return 200, found
        match = _PATH.fullmatch(path)
        if match is None or match["plural"] not in KINDS:
            raise Refused(404, "the server could not find the requested resource")
        plural, name, part = match["plural"], match["name"], match["part"]
        namespace = match["namespace"]
        with self.store.changed:
            if http.command == "GET" and name is None:
                return 200, self._list(plural, namespace, query)
            if http.command == "GET":
                return 200, copy.deepcopy(self.store.get(plural, namespace, name))
            if namespace:
                self.store.get("namespaces", None, namespace)
            manager = query.get("fieldManager", "client")
            dry = query.get("dryRun") == "All"
            if http.command == "POST" and part == "eviction":
                return 201, self._evict(namespace, name, body)
            if http.command == "POST":
                return 201, self._create(plural, namespace, body, manager, dry)
            if http.command == "DELETE":
                return 200, self._delete(plural, namespace, name, body or {}, query)
            if http.command == "PATCH" and "apply" in http.headers["Content-Type"]:
                force = query.get("force", "").lower() == "true"
                return self._apply(plural, namespace, name, body, manager, force, dry)
            return 200, self._change(http, plural, namespace, name, part, body, manager)

    def _list(self, plural, namespace, query):
        version, kind, _, _ = KINDS[plural]
        items = [i for i in self.store.all(plural, namespace) if _chosen(i, query)]
        first, most = (
            int(query.get("continue", 0)),
            min(int(query.get("limit", 10**9)), self.page),
        )
        meta = {"resourceVersion": str(self.store.version)}
        if len(items) > first + most:
            meta["continue"] = str(first + most)
        return {
            "kind": f"{kind}List",
            "apiVersion": version,
            "metadata": meta,
            "items": copy.deepcopy(items[first : first + most]),
        }

    def _watch(self, http, path, query):
        match = _PATH.fullmatch(path)
        since = int(query.get("resourceVersion") or 0)
        http.send_response(200)
        http.send_header("Content-Type", "application/json")
        http.send_header("Transfer-Encoding", "chunked")
        http.end_headers()

        def send(event, item):
            data = json.dumps({"type": event, "object": item}).encode() + b"\n"
            http.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            http.wfile.flush()

        def pending():
            return [
                (event, item)
                for version, event, plural, item in reversed_until(self.store.log, since)
                if plural == match["plural"]
                and match["namespace"] in (None, item["metadata"].get("namespace"))
                and _chosen(item, query)
            ]

        seconds = float(query.get("timeoutSeconds", 60))
        end = datetime.datetime.now().timestamp() + seconds
        try:
            if since < self.store.oldest:
                send("ERROR", Refused(410, "too old resource version", "Expired").body)
            else:
                while not (self.closed or self.down):
                    left = end - datetime.datetime.now().timestamp()
                    with self.store.changed:
                        found = pending()
                        if not found and left > 0:
                            self.store.changed.wait(min(left, 1.0))
                            found = pending()
                        since = self.store.version
                    for event, item in found:
                        send(event, item)
                    if left <= 0:
                        break
            http.wfile.write(b"0\r\n\r\n")
        except OSError:
            http.close_connection = True

    def _create(self, plural, namespace, body, manager, dry):
        meta = body["metadata"]
        if "name" not in meta:
            meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
        if (plural, namespace, meta["name"]) in self.store.objects:
            full = f'{plural} "{meta["name"]}" already exists'
            raise Refused(409, full, "AlreadyExists")
        return self.write(plural, None, namespace, _born(body), manager, dry=dry)

    def _apply(self, plural, namespace, name, body, manager, force, dry):
        version, kind, _, _ = KINDS[plural]
        gap = _undeclared(getattr(models, f"V1{kind}", None), body, "")
        if gap:
            raise Refused(
                500,
                f"failed to create typed patch object ({namespace}/{name}; {version}, "
                f"Kind={kind}): {gap}: field not declared in schema",
            )
        live = self.store.objects.get((plural, namespace, name))
        body = copy.deepcopy(body)
        body["metadata"]["name"] = name
        try:
            item = ssa.apply(live, body, manager, force, now())
        except ssa.Conflict as conflict:
            raise _conflict(conflict.fields) from None
        if live is None:
            item = _born(item)
        made = self.write(plural, live, namespace, item, None, dry=dry)
        return (201 if live is None else 200), made

    def _change(self, http, plural, namespace, name, part, body, manager):
        live = self.store.get(plural, namespace, name)
        meta = body.get("metadata", {})
        for key in ("resourceVersion", "uid"):
            if meta.get(key) not in (None, live["metadata"][key]):
                raise Refused(
                    409,
                    f'Operation cannot be fulfilled on {plural} "{name}": the object has '
                    "been modified; please apply your changes to the latest version",
                    "Conflict",
                )
        if http.command == "PUT":
            kept = {k: live["metadata"][k] for k in ("uid", "creationTimestamp")}
            item = copy.deepcopy(body)
            item["metadata"] |= kept | {
                "managedFields": copy.deepcopy(live["metadata"].get("managedFields", []))
            }
        elif "strategic" in http.headers["Content-Type"]:
            item = ssa.merge(copy.deepcopy(live), body)
        else:
            item = _merged(copy.deepcopy(live), body)
        if part == "resize":
            if not live.get("status", {}).get("containerStatuses"):
                raise Refused(422, "node without support for resize", "Invalid")
        elif plural == "pods" and part is None:
            _check_pod(live, item)
        return self.write(plural, live, namespace, item, manager, subresource=part)

    def write(self, plural, live, namespace, item, manager, *, dry=False, subresource=None):
        version, kind, namespaced, _ = KINDS[plural]
        item = copy.deepcopy(item)
        item["apiVersion"], item["kind"] = version, kind
        if namespaced:
            item["metadata"]["namespace"] = namespace
        if manager:
            item = ssa.update(live, item, manager, now(), subresource)
        _fill(plural, item)
        _check(plural, live, item)
        if dry:
            return item
        return copy.deepcopy(self.store.put(plural, item))

    def _delete(self, plural, namespace, name, options, query):
        item = self.store.get(plural, namespace, name)
        uid = options.get("preconditions", {}).get("uid")
        if uid not in (None, item["metadata"]["uid"]):
            raise Refused(409, "the UID in the precondition does not match", "Conflict")
        seconds = options.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
        if plural == "pods" and seconds not in (0, "0"):
            self.stop_pod(item)
        else:
            self.store.drop(plural, item)
        return item

    def stop_pod(self, item):
        """Mark a pod that runs as leaving; its node drops it. Others go at once."""
        if self.grace is None or not item["spec"].get("nodeName"):
            self.store.drop("pods", item)
        elif "deletionTimestamp" not in item["metadata"]:
            item = copy.deepcopy(item)
            item["metadata"]["deletionTimestamp"] = now()
            self.store.put("pods", item)

    def _evict(self, namespace, name, body):
        pod = self.store.get("pods", namespace, name)
        uid = body.get("deleteOptions", {}).get("preconditions", {}).get("uid")
        if uid not in (None, pod["metadata"]["uid"]):
            raise Refused(409, "the UID in the precondition does not match", "Conflict")
        found = pod["metadata"].get("labels", {})
        for budget in self.store.all("poddisruptionbudgets", namespace):
            wanted = budget["spec"]["selector"]["matchLabels"]
            of = lambda labels, wanted=wanted: all(
                labels.get(k) == v for k, v in wanted.items()
            )
            if not of(found) or not ready(pod):
                continue
            mine = [
                p
                for p in self.store.all("pods", namespace)
                if of(p["metadata"].get("labels", {}))
            ]
            healthy = sum(ready(p) for p in mine)
            expected = sum(
                s["spec"].get("replicas", 1)
                for plural in ("deployments", "statefulsets")
                for s in self.store.all(plural, namespace)
                if of(s["spec"]["template"]["metadata"]["labels"])
            )
            if "minAvailable" in budget["spec"]:
                needed = budget["spec"]["minAvailable"]
            else:
                needed = expected - budget["spec"]["maxUnavailable"]
            if healthy - 1 < needed:
                raise Refused(
                    429,
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    "TooManyRequests",
                    [{"reason": "DisruptionBudget", "message": budget["metadata"]["name"]}],
                )
        self.stop_pod(pod)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _metrics(self, what):
        rows = self.usage[what]
        items = [
            {"metadata": {"name": n}, "usage": u}
            if what == "nodes"
            else {
                "metadata": {"name": n, "namespace": "default"},
                "containers": [{"name": "agent", "usage": u}],
            }
            for n, u in rows.items()
        ]
        return {"kind": "List", "apiVersion": "metrics.k8s.io/v1beta1", "items": items}


def reversed_until(log, since):
    """What came after a version, found from the end of the log."""
    k = len(log)
    while k and log[k - 1][0] > since:
        k -= 1
    return log[k:]


def ready(pod):
    conditions = pod.get("status", {}).get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and any(
        c["type"] == "Ready" and c["status"] == "True" for c in conditions
    )


def _born(item):
    item["metadata"] = {
        **item["metadata"],
        "uid": str(uuid.uuid4()),
        "generation": 1,
        "creationTimestamp": now(),
    }
    return item


def _conflict(fields):
    def shown(path):
        text = ""
        for step in path:
            if step.startswith("f:"):
                text += f".{step[2:]}"
            else:
                keys = json.loads(step[2:])
                text += "[" + ",".join(f'{k}="{v}"' for k, v in keys.items()) + "]"
        return text

    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{who}"',
            "field": shown(path),
        }
        for who, path in fields
    ]
    count = f"{len(causes)} conflict{'s' * (len(causes) > 1)}"
    said = "; ".join(f"{c['message']}: {c['field']}" for c in causes)
    return Refused(409, f"Apply failed with {count}: {said}", "Conflict", causes)


def _merged(old, new):
    for key, value in new.items():
        if value is None:
            old.pop(key, None)
        elif isinstance(value, dict) and isinstance(old.get(key), dict):
            old[key] = _merged(old[key], value)
        else:
            old[key] = copy.deepcopy(value)
    return old


def _chosen(item, query):
    found = item["metadata"].get("labels", {})
    for pair in filter(None, query.get("labelSelector", "").split(",")):
        key, value = pair.split("=")
        if found.get(key) != value:
            return False
    for pair in filter(None, query.get("fieldSelector", "").split(",")):
        key, value = pair.split("=")
        here = item
        for step in key.split("."):
            here = (here or {}).get(step)
        if here != value:
            return False
    return True


_CONTAINER = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "imagePullPolicy": "IfNotPresent",
}
_POD = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}


def _fill(plural, item):
    """Write the server's defaults, for the kinds whose defaults tests look at."""
    fill = lambda value, defaults: [
        value.setdefault(k, copy.deepcopy(v)) for k, v in defaults.items()
    ]
    spec = item.get("spec", {})
    if plural in ("deployments", "statefulsets", "jobs", "pods"):
        pod = spec if plural == "pods" else spec["template"]["spec"]
        for container in pod.get("containers", []):
            fill(container, _CONTAINER)
            for port in container.get("ports", []):
                fill(port, {"protocol": "TCP"})
        fill(pod, _POD)
    if plural == "deployments":
        share = {"maxUnavailable": "25%", "maxSurge": "25%"}
        rolling = {"type": "RollingUpdate", "rollingUpdate": share}
        fill(spec, {"replicas": 1, "strategy": rolling, "revisionHistoryLimit": 10})
        fill(spec, {"progressDeadlineSeconds": 600})
        if spec["strategy"]["type"] == "Recreate":
            spec["strategy"].pop("rollingUpdate", None)
    if plural in ("deployments", "statefulsets"):
        item.setdefault("status", {})


def _check(plural, live, item):
    if plural in ("deployments", "statefulsets"):
        kind = f"{KINDS[plural][1]}.apps"
        name, selector = item["metadata"]["name"], item["spec"]["selector"]
        if live and live["spec"]["selector"] != selector:
            shown = json.dumps(selector, separators=(",", ":"))
            message = f"Invalid value: {shown}: field is immutable"
            cause = {
                "reason": "FieldValueInvalid",
                "message": message,
                "field": "spec.selector",
            }
            full = f'{kind} "{name}" is invalid: spec.selector: {message}'
            raise Refused(422, full, "Invalid", [cause])


def _check_pod(live, item):
    """A pod's spec is fixed, but a gated one may be given a node and lose its gates."""
    gates = live["spec"].get("schedulingGates", [])
    left = item["spec"].get("schedulingGates", [])
    changed = {
        k
        for k in {*live["spec"], *item["spec"]}
        if live["spec"].get(k) != item["spec"].get(k)
    }
    if any(gate not in gates for gate in left) or changed - (
        {"schedulingGates", "nodeSelector"} if gates else set()
    ):
        raise Refused(
            422,
            f'Pod "{live["metadata"]["name"]}" is invalid: spec: Forbidden: pod updates '
            "may not change fields other than those of a gated pod",
            "Invalid",
        )


def _undeclared(model, value, path):
    """Find the first field that the client's typed model does not have."""
    types = getattr(model, "openapi_types", None)
    if types is None or not isinstance(value, dict):
        return None
    names = {alias: name for name, alias in model.attribute_map.items()}
    for key, item in value.items():
        if key not in names:
            return f"{path}.{key}"
        kind = types[names[key]]
        many = kind.lower().startswith("list[")
        inner = getattr(models, kind[5:-1] if many else kind, None)
        for k, part in enumerate(item if many else [item]):
            here = f"{path}.{key}[{k}]" if many else f"{path}.{key}"
            if gap := _undeclared(inner, part, here):
                return gap
    return None


def _discovery(path):
    if path == "/version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.2-double"}
    groups = {}
    for plural, (version, kind, namespaced, parts) in KINDS.items():
        rows = groups.setdefault(version, [])
        verbs = ["get", "list", "create", "update", "patch", "delete", "watch"]
        base = {"singularName": kind.lower(), "namespaced": namespaced, "verbs": verbs}
        rows.append({"name": plural, "kind": kind, **base})
        rows += [{"name": f"{plural}/{part}", "kind": kind, **base} for part in parts]
    if path == "/apis":
        found = [
            {
                "name": group,
                "versions": [{"groupVersion": version, "version": "v1"}],
                "preferredVersion": {"groupVersion": version, "version": "v1"},
            }
            for version in groups
            if (group := version.partition("/")[0]) != version
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}
    for version, rows in groups.items():
        if path == ("/api/v1" if version == "v1" else f"/apis/{version}"):
            return {
                "kind": "APIResourceList",
                "groupVersion": version,
                "resources": rows,
            }
    return None
