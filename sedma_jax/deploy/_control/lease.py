"""A Lease lets one controller at a time change a workflow.

Its holder renews it; another controller takes it over only after it has seen no renewal for
the whole duration by its own clock: clocks of two machines are never compared. `check` and
the version of the record fence all writes.
"""

import datetime
import threading
import time
from collections.abc import Callable

from .._json import JsonObject
from .cluster import Cluster, ClusterError

_API = ("coordination.k8s.io/v1", "Lease")


class LeaseLost(RuntimeError):
    """Another controller leads, or the lease could not be renewed in time.

    **Example:**

        >>> error = sj.deploy.LeaseLost("`sedma deploy` needs the lease sedma-tour.")
        >>> isinstance(error, RuntimeError)
        True
        >>> isinstance(error, sj.deploy.ClusterError)  # the server itself refused nothing
        False
    """


class Lease:
    """A lease on a workflow, renewed by a thread while it is held.

    **Arguments:**

    - `cluster`: where the Lease is; its `guard` is set, so that from then on nothing is
        written without the lease.
    - `name`, `namespace`: of the Lease.
    - `identity`: of this process, unlike any other's.
    - `seconds`: without renewal, after which another process may take it over.
    - `clock`: monotonic seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        namespace: str,
        identity: str,
        *,
        seconds: int = 15,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._writer = cluster.unguarded(0.0)  # never guarded by itself
        self._cluster, self._name, self._namespace = cluster, name, namespace
        self.identity, self._seconds, self._clock = identity, seconds, clock
        self._renewed = -float("inf")
        self._seen: tuple[str, float] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def try_acquire(self) -> str | None:
        """Take or renew the lease if it is free; otherwise return who holds it."""
        asked = self._clock()
        live = self._writer.get(*_API, self._name, self._namespace)
        try:
            if live is None:
                self._writer.create(self._body({}, 0))
            else:
                meta, spec = live["metadata"], live.get("spec") or {}
                holder = spec.get("holderIdentity") or ""
                if holder not in ("", self.identity) and not self._expired(meta, spec):
                    return holder
                changed = int(spec.get("leaseTransitions") or 0) + (holder != self.identity)
                kept = {k: meta[k] for k in ("uid", "resourceVersion")}
                self._writer.replace(self._body(kept, changed))
        except ClusterError as error:
            if error.status == 409:  # another was faster
                return "another controller"
            raise
        # Counted from before the request: the server renewed it no earlier than that.
        self._renewed = asked
        return None

    def acquire(self, wait: float = 0.0) -> None:
        """Take the lease and keep it, within `wait` seconds.

        **Raises:** `LeaseLost`, naming the holder.
        """
        end = time.monotonic() + wait
        while (holder := self.try_acquire()) is not None:
            if time.monotonic() > end or self._stop.wait(min(1.0, self._seconds / 5)):
                raise LeaseLost(
                    f"`sedma deploy` needs the lease {self._name}. It is held by {holder}. "
                    "Stop that controller, or wait until it ends."
                )
        self._cluster.guard = self.check
        self._stop.clear()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise `LeaseLost` unless the lease is held for sure."""
        if self._clock() - self._renewed > 0.8 * self._seconds:
            raise LeaseLost(
                f"`sedma deploy` needs the lease {self._name}. It could not be renewed for "
                f"{self._seconds} s. Start again when the API server is back."
            )

    def release(self) -> None:
        """Stop renewing, and give the lease back if it is still ours."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        try:
            live = self._writer.get(*_API, self._name, self._namespace)
            if live and (live.get("spec") or {}).get("holderIdentity") == self.identity:
                live["spec"]["holderIdentity"] = ""
                self._writer.replace(live)
        except ClusterError:
            pass  # it expires
        self._renewed = -float("inf")

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, *_: object):
        self.release()

    def _keep(self) -> None:
        while not self._stop.wait(self._seconds / 5):
            try:
                if self.try_acquire() is not None:
                    self._renewed = -float("inf")
                    return
            except ClusterError:
                continue  # `check` fails once too long has passed

    def _expired(self, meta: JsonObject, spec: JsonObject) -> bool:
        now, version = self._clock(), meta["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now)
        return now - self._seen[1] > float(spec.get("leaseDurationSeconds") or 15)

    def _body(self, meta: JsonObject, transitions: int) -> JsonObject:
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": _API[0],
            "kind": _API[1],
            "metadata": {"name": self._name, "namespace": self._namespace, **meta},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self._seconds,
                "renewTime": stamp,
                "leaseTransitions": transitions,
            },
        }
