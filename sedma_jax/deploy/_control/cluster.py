"""Talk to the API server: dictionaries in, dictionaries out, errors by status.

The dynamic client of `kubernetes` asks the server which kinds it has. Its typed models
changed with version 37; its dictionaries did not. No other module imports `kubernetes`.
"""

import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ResourceNotFoundError

from .._json import JsonObject
from .._manifests.objects import OWNER

_UNREACHABLE = (client.rest.urllib3.exceptions.HTTPError, OSError)  # pyright: ignore[reportAttributeAccessIssue]
_PASSING = {429, 502, 503, 504}  # statuses after which another try may succeed
_TIMES = (5, 30)  # seconds to connect, and to wait for bytes

_REMEDIES = {
    401: "Renew the credentials of the kubeconfig.",
    403: "Give the user a Role that allows it, or ask whoever may.",
    404: "Check the names, and that the namespace exists.",
    409: "Another manager holds a field, or the object changed meanwhile; look at the "
    "diff, then try again or give --force.",
    422: "Correct what is named in the workflow.",
    429: "Wait; a disruption budget or the load of the server forbids it now.",
}


class ClusterError(RuntimeError):
    """The API server refused a request, or could not be reached (`status` 0).

    `said` is what the server said, and `status` the one of HTTP.

    **Example:**

        >>> error = sj.deploy.ClusterError(403, "apply Deployment front", "not allowed")
        >>> print(error)
        The API server did not apply Deployment front (403): not allowed. Give the user ...
        >>> error.status, isinstance(error, RuntimeError)
        (403, True)
    """

    def __init__(self, status: int, action: str, said: str):
        remedy = _REMEDIES.get(status, "Try again; see the API server's log if it stays.")
        if status == 0:
            remedy = "Check the kubeconfig, and that the server runs."
        number = f" ({status})" if status else ""
        said = " ".join(said.split())[:2000].rstrip(".")
        super().__init__(f"The API server did not {action}{number}: {said}. {remedy}")
        self.status = status
        self.said = said


class Cluster:
    """An API server; requests that may be repeated are repeated while `patience` lasts.

    **Arguments:**

    - `api`: a client with address and credentials.
    - `patience`: seconds for which a server that is away or overloaded is asked again.

    `guard` is called before every change, and raises if this process may not write.
    """

    def __init__(self, api: Any, *, patience: float = 60.0):
        self._api, self.patience = api, patience
        self._dynamic: Any = None
        self.guard: Callable[[], None] = lambda: None

    @classmethod
    def connect(
        cls, kubeconfig: str | None = None, context: str | None = None, **options: Any
    ) -> "Cluster":
        """Connect as a kubeconfig says; without one, as a pod of the cluster does.

        **Raises:** `ValueError` if neither is possible.
        """
        try:
            if (
                kubeconfig is None
                and not Path(config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION.split(":")[0])
                .expanduser()
                .exists()
            ):
                settings = client.Configuration()
                config.load_incluster_config(settings)
                api = client.ApiClient(settings)
            else:
                api = config.new_client_from_config(kubeconfig, context=context)
        except (config.ConfigException, OSError, TypeError) as error:
            raise ValueError(
                f"A cluster needs a kubeconfig. Got {kubeconfig or 'none'}: {error}. Name "
                "one by --kubeconfig or KUBECONFIG."
            ) from error
        return cls(api, **options)

    def unguarded(self, patience: float) -> "Cluster":
        """Connect to the same server without this guard."""
        return Cluster(self._api, patience=patience)

    def apply(
        self,
        body: JsonObject,
        *,
        dry_run: bool = False,
        force: bool = False,
        manager: str = OWNER,
    ) -> JsonObject:
        """Apply an object on the server, strictly validated; return what it becomes.

        **Raises:** `ClusterError`; 409 names the manager of a field and the field.
        """
        query = [("fieldValidation", "Strict")]
        if dry_run:
            query.append(("dryRun", "All"))
        else:
            self.guard()
        meta = body["metadata"]
        return self._ask(
            f"apply {body['kind']} {meta['name']}",
            lambda of: of.server_side_apply(
                body=body,
                name=meta["name"],
                namespace=meta.get("namespace"),
                field_manager=manager,
                force_conflicts="true" if force else "false",
                query_params=query,
                **_PLAIN,
            ),
            *(body["apiVersion"], body["kind"]),
        )

    def get(
        self, version: str, kind: str, name: str, namespace: str | None = None
    ) -> JsonObject | None:
        """Get one object, None if there is none."""
        call = lambda of: of.get(name=name, namespace=namespace, **_PLAIN)
        try:
            return self._ask(f"show {kind} {name}", call, version, kind)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def list(
        self,
        version: str,
        kind: str,
        namespace: str | None = None,
        *,
        labels: dict[str, str] | None = None,
        fields: str | None = None,
    ) -> tuple[list[JsonObject], str]:
        """List all objects of a kind with these labels; return the list's version, too."""
        chosen = ",".join(f"{k}={v}" for k, v in (labels or {}).items()) or None
        items: list[JsonObject] = []
        page = None
        while True:
            call = lambda of, page=page: of.get(
                namespace=namespace,
                label_selector=chosen,
                field_selector=fields,
                limit=500,
                _continue=page,
                **_PLAIN,
            )
            found = self._ask(f"list {kind}", call, version, kind)
            items += found.get("items") or []
            page = found["metadata"].get("continue")
            if not page:
                return items, found["metadata"].get("resourceVersion", "0")

    def create(self, body: JsonObject, *, dry_run: bool = False) -> JsonObject:
        """Make an object; never repeated, since it may be there after a lost answer."""
        if not dry_run:
            self.guard()
        call = lambda of: of.create(
            body=body,
            namespace=body["metadata"].get("namespace"),
            field_manager=OWNER,
            query_params=[("dryRun", "All")] * dry_run,
            **_PLAIN,
        )
        action = f"create {body['kind']} {body['metadata'].get('name', '')}"
        return self._ask(action, call, body["apiVersion"], body["kind"], patience=0)

    def replace(self, body: JsonObject) -> JsonObject:
        """Replace the version of an object that `body` names; status 409 if it changed."""
        self.guard()
        call = lambda of: of.replace(body=body, field_manager=OWNER, **_PLAIN)
        action = f"replace {body['kind']} {body['metadata']['name']}"
        return self._ask(action, call, body["apiVersion"], body["kind"], patience=0)

    def patch(self, version: str, kind: str, body: JsonObject) -> JsonObject:
        """Merge `body` into an object (RFC 7396)."""
        self.guard()
        meta = body["metadata"]
        call = lambda of: of.patch(
            body=body,
            name=meta["name"],
            namespace=meta.get("namespace"),
            content_type="application/merge-patch+json",
            field_manager=OWNER,
            **_PLAIN,
        )
        return self._ask(f"patch {kind} {meta['name']}", call, version, kind)

    def resize(self, body: JsonObject) -> JsonObject:
        """Change the resources of a running pod's containers in place."""
        self.guard()
        meta = body["metadata"]
        call = lambda of: of.patch(
            body=body,
            name=meta["name"],
            namespace=meta["namespace"],
            content_type="application/strategic-merge-patch+json",
            **_PLAIN,
        )
        return self._ask(f"resize {meta['name']}", call, "v1", "Pod", "resize")

    def delete(
        self, version: str, kind: str, meta: JsonObject, *, seconds: int | None = None
    ) -> None:
        """Delete the object with this uid, if it is still there."""
        self.guard()
        options = {"preconditions": {"uid": meta["uid"]}, "propagationPolicy": "Background"}
        if seconds is not None:
            options["gracePeriodSeconds"] = seconds
        call = lambda of: of.delete(
            name=meta["name"], namespace=meta.get("namespace"), body=options, **_PLAIN
        )
        try:
            self._ask(f"delete {kind} {meta['name']}", call, version, kind)
        except ClusterError as error:
            if error.status not in (404, 409):  # gone, or another object of this name
                raise

    def evict(self, meta: JsonObject) -> bool:
        """Evict a pod; False if a disruption budget forbids it now."""
        self.guard()
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            "deleteOptions": {"preconditions": {"uid": meta["uid"]}},
        }
        call = lambda of: of.create(
            body=eviction, name=meta["name"], namespace=meta["namespace"], **_PLAIN
        )
        try:
            self._ask(f"evict {meta['name']}", call, "v1", "Pod", "eviction", patience=0)
        except ClusterError as error:
            if error.status in (404, 409):
                return True
            if error.status == 429:
                return False
            raise
        return True

    def read(self, path: str) -> JsonObject:
        """Ask an API that has no kinds, such as the one of resource usage."""
        ask = lambda _: self._client().request("get", path, **_PLAIN)
        return self._ask(f"answer {path}", ask)

    def changed(
        self,
        kind: str,
        namespace: str | None,
        labels: dict[str, str],
        since: str,
        seconds: float,
    ) -> bool:
        """Wait up to `seconds` for a change of an object of v1 after version `since`.

        An expired watch (410) or a server that is away counts as a change: the caller
        lists the objects again.
        """
        chosen = ",".join(f"{k}={v}" for k, v in labels.items())
        try:
            events = self._kind("v1", kind).watch(
                namespace=namespace,
                label_selector=chosen,
                resource_version=since,
                timeout=max(1, round(seconds)),
            )
            for event in events:
                if event["type"] != "BOOKMARK":
                    events.close()
                    return True
            return False
        except (ApiException, *_UNREACHABLE, ValueError):
            time.sleep(min(1.0, seconds))  # do not hammer a server that is away
            return True

    def _client(self) -> Any:
        if self._dynamic is None:
            with tempfile.TemporaryDirectory() as folder:
                # By default its cache lies in a folder that all users share.
                try:
                    found = DynamicClient(self._api, cache_file=f"{folder}/kinds.json")
                except ValueError as error:  # it raises this for a connection cut short
                    raise ConnectionError(str(error)) from error
                self._dynamic = found
        return self._dynamic

    def _kind(self, version: str, kind: str, part: str | None = None) -> Any:
        """The client of a kind, or of a subresource of it."""
        try:
            found = self._client().resources.get(api_version=version, kind=kind)
        except ResourceNotFoundError as error:
            raise ClusterError(
                404, f"know {kind} of {version}", "no such kind is installed"
            ) from error
        return found.subresources[part] if part else found

    def _ask(
        self,
        action: str,
        call: Callable[[Any], Any],
        version: str = "",
        kind: str | None = None,
        part: str | None = None,
        *,
        patience: float | None = None,
    ) -> Any:
        """Call with the client of a kind, repeatedly while failures may pass."""
        patience = self.patience if patience is None else patience
        end, pause = time.monotonic() + patience, 0.2
        while True:
            try:
                of = self._kind(version, kind, part) if kind else None
                answer = call(of)
                return json.loads(answer.data) if hasattr(answer, "data") else answer
            except ApiException as error:
                status, said = int(error.status or 0), _said(error)
                passing = status in _PASSING
            except _UNREACHABLE as error:
                status, said, passing = 0, f"it cannot be reached: {error}", True
            if not passing or time.monotonic() + pause > end:
                raise ClusterError(status, action, said)
            # The random part spreads the clients that wait for the same server.
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, 5.0)


_PLAIN: dict[str, Any] = {"serialize": False, "_request_timeout": _TIMES}


def _said(error: Any) -> str:
    """What the server says in an `ApiException`."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason or error.body or "no reason given")[:300]
