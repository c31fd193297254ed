"""Keep a workflow as its record wants it: roll out, move, heal, go back.

All that is known is in the cluster: a controller that starts again looks, and goes on.
"""

import dataclasses
import datetime
import time
from collections.abc import Callable, Mapping

from .._manifests.manifests import OWNER, labels
from .._placing.placement import Infeasible
from .._placing.relocation import replaced
from .._workflow.specification import Workflow
from .cluster import Cluster, ClusterError
from .observe import observe
from .reconcile import NOTHING, Reconciler, Settings, Status
from .record import Deployed, Record
from .server_objects import apply_objects, changes


class RolloutFailed(RuntimeError):
    """A rollout did not get ready; the message says why, and what runs now."""


class Controller:
    """Applies one workflow to one cluster. Needs the workflow's lease if others may run.

    **Arguments:**

    - `cluster`: where.
    - `workflow`: which; only its name and namespace count here.
    - `settings`: deadlines.
    - `clock`: monotonic seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        workflow: Workflow,
        settings: Settings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.cluster, self.workflow = cluster, workflow
        self.settings, self.clock = settings or Settings(), clock
        self.reconciler = Reconciler(cluster, workflow, self.settings, clock)
        self.keeper = self.reconciler.keeper
        self.report: Callable[[Status], None] = lambda status: None

    def roll_out(self, deployed: Deployed, *, force: bool = False) -> Status:
        """Apply a workflow and wait until it is ready; else go back to the last good one.

        Everything is first tried on the server as a dry run; if anything is refused,
        nothing is written.

        **Raises:** `RolloutFailed`, `ClusterError`, `ValueError` for foreign objects.
        """
        record = self.keeper.load()
        changes(self.cluster, deployed, self.keeper, force=force)
        self.keeper.save(dataclasses.replace(record, wanted=deployed))
        return self._finish(record, force)

    def resume(self) -> Status:
        """Go on with what is on record: a rollout that was cut short, or one that is done.

        Objects that were deleted or changed meanwhile are applied again.
        """
        record = self.keeper.load()
        if record.wanted is None:
            raise ValueError(NOTHING.format(name=self.workflow.name))
        return self._finish(record, False)

    def _finish(self, record: Record, force: bool) -> Status:
        deployed = self.keeper.load().wanted
        assert deployed is not None
        try:
            apply_objects(self.cluster, deployed, self.keeper, force=force)
            status = self.settle()
            said = "; ".join(status.problems) or "it did not get ready"
        except ClusterError as error:
            if error.status == 0:
                raise  # the record says what is wanted: the next run goes on
            status, said = None, str(error)
        if status is not None and status.settled:
            self._confirm(record)
            self.event("Applied", f"{status.ready} replicas are ready.")
            return status
        self._go_back(record, said)
        raise AssertionError("Going back raises.")

    def move(self, nodes: Mapping[str, str], reason: str) -> Status:
        """Move replicas to other nodes; go back if they do not get ready there."""
        record = self.keeper.load()
        if record.wanted is None:
            raise ValueError(NOTHING.format(name=self.workflow.name))
        wanted = dataclasses.replace(record.wanted, nodes=dict(nodes))
        self.event("Moving", reason)
        self.keeper.save(dataclasses.replace(record, wanted=wanted))
        status = self.settle()
        if status.settled:
            now = self.keeper.load()
            self.keeper.save(dataclasses.replace(now, good=now.wanted))
            return status
        self._go_back(record, "; ".join(status.problems) or "it did not get ready")
        raise AssertionError("Going back raises.")

    def roll_back(self) -> Deployed:
        """Return to the last good deployment before the present one."""
        record = self.keeper.load()
        back = record.good if record.good != record.wanted else record.previous
        if back is None:
            raise ValueError(
                f"`rollback` needs an earlier deployment of {self.workflow.name} that got "
                "ready. There is none on record. Apply one."
            )
        self._return_to(record, back)
        self.event("RolledBack", "To the last good deployment, as asked for.")
        return back

    def settle(self, seconds: float | None = None) -> Status:
        """Step until all is ready, at most `seconds`; the last status."""
        end = self.clock() + (self.settings.deadline if seconds is None else seconds)
        while True:
            status = self.reconciler.step()
            self.report(status)
            if status.lost:
                self.heal(status.lost)
            elif status.settled or self.clock() >= end:
                return status
            self.wait(min(self.settings.interval, max(0.0, end - self.clock())))

    def wait(self, seconds: float) -> bool:
        """Wait for a change of a pod, at most so long."""
        if seconds <= 0:
            return False
        found = labels(self.workflow)
        since = self.reconciler.version
        namespace = self.workflow.namespace
        return self.cluster.changed("Pod", namespace, found, since, seconds)

    def heal(self, lost: tuple[str, ...]) -> None:
        """Choose other nodes for the replicas of lost ones."""
        record = self.keeper.load()
        if record.wanted is None:
            return
        rooms = self.reconciler.rooms(record, observe(self.cluster, self.workflow))
        try:
            nodes = replaced(record.wanted, rooms)
        except Infeasible as error:
            self.event("NoRoom", str(error), warning=True)
            raise RolloutFailed(
                f"{self.workflow.name} lost {', '.join(lost)}, and the rest has no room: "
                f"{error} What runs elsewhere was left as it is."
            ) from error
        self.event("NodeLost", f"{', '.join(lost)}; its replicas are placed anew.")
        wanted = dataclasses.replace(record.wanted, nodes=nodes)
        good = wanted if record.good == record.wanted else record.good
        self.keeper.save(dataclasses.replace(record, wanted=wanted, good=good))

    def event(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell the cluster's users what happened; a failure to do so stops nothing."""
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        reference = self.keeper.reference() | {"namespace": self.workflow.namespace}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "generateName": f"{self.keeper.name}-",
                "namespace": self.workflow.namespace,
            },
            "involvedObject": reference,
            "reason": reason,
            "message": message[:1000],
            "type": "Warning" if warning else "Normal",
            "source": {"component": OWNER},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        try:
            self.cluster.create(body)
        except ClusterError:
            pass

    def _confirm(self, before: Record) -> None:
        record = self.keeper.load()  # healing may have changed the nodes meanwhile
        same = before.good is None or before.good.workflow == _workflow(record)
        previous = before.previous if same else before.good
        self.keeper.save(dataclasses.replace(record, good=record.wanted, previous=previous))

    def _go_back(self, record: Record, said: str) -> None:
        name = self.workflow.name
        if record.good is None:
            self.event("Failed", said, warning=True)
            raise RolloutFailed(
                f"{name} did not get ready: {said}. No earlier deployment got ready, so it "
                "was left as it is. Correct it and apply again."
            )
        self._return_to(self.keeper.load(), record.good)
        self.event("RolledBack", said, warning=True)
        raise RolloutFailed(
            f"{name} did not get ready: {said}. The last good deployment runs again. "
            "Correct the workflow, or the cluster, and apply again."
        )

    def _return_to(self, record: Record, back: Deployed) -> None:
        self.keeper.save(dataclasses.replace(record, wanted=back, sizes={}))
        apply_objects(self.cluster, back, self.keeper)
        # It got ready before: a deadline meant to find what does not is no measure here.
        status = self.settle(max(self.settings.deadline, 120.0))
        if not status.settled:
            said = "; ".join(status.problems)
            raise RolloutFailed(
                f"{self.workflow.name} went back to its last good deployment, which is not "
                f"ready either: {said}. See `kubectl get events`."
            )
        record = self.keeper.load()
        self.keeper.save(dataclasses.replace(record, good=record.wanted, previous=None))


def _workflow(record: Record) -> Workflow | None:
    return record.wanted and record.wanted.workflow
