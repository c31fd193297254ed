"""Keep a workflow as its record wants it: roll out, move, heal, go back.

All state is in the cluster: a controller that starts again reads it there, and goes on.
"""

import dataclasses
import datetime
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from .._manifests.objects import OWNER, labels
from .._placing.deployed import Deployed
from .._placing.placement import Infeasible
from .._placing.placing_anew import place_anew
from .._workflow.specification import Workflow
from .changes import Change, apply_objects, changes
from .cluster import Cluster, ClusterError
from .observe import observe
from .reconcile import DeploymentStatus, Reconciler, Settings, wanted_of
from .record import DeploymentRecord

Report = Callable[[DeploymentStatus], None]
Said = Callable[[str], None]


def silent(status: DeploymentStatus) -> None:
    """Report nothing."""


class RolloutFailed(RuntimeError):
    """A rollout did not get ready; the message says why, and what runs now.

    **Example:**

        >>> def rolled_out(apply):
        ...     try:
        ...         return apply()
        ...     except sj.deploy.RolloutFailed as error:  # it was taken back
        ...         return f"not deployed: {error}"
        >>> def out_of_memory():
        ...     raise sj.deploy.RolloutFailed("front-0 is out of memory.")
        >>> rolled_out(out_of_memory)
        'not deployed: front-0 is out of memory.'
    """


class Controller:
    """Applies one workflow to one cluster; if others may do so too, it needs the lease.

    **Arguments:**

    - `cluster`: where to apply it.
    - `workflow`: which one; only its name and namespace count here.
    - `settings`: deadlines.
    - `clock`: monotonic seconds.
    - `report`: told the status after every step.

    `said` is told every event and decision, one line each time.
    """

    def __init__(
        self,
        cluster: Cluster,
        workflow: Workflow,
        settings: Settings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        report: Report = silent,
    ):
        self.cluster, self.workflow = cluster, workflow
        self.settings, self.clock = settings or Settings(), clock
        self.reconciler = Reconciler(cluster, workflow, self.settings, clock)
        self.keeper = self.reconciler.keeper
        self.report = report
        self.said: Said = lambda line: None
        self._away: tuple[str, ...] = ()

    def roll_out(self, deployed: Deployed, *, force: bool = False) -> DeploymentStatus:
        """Try a workflow as a dry run, then carry it out; see `dry_run` and `carry_out`."""
        self.dry_run(deployed, force=force)
        return self.carry_out(deployed, force=force)

    def dry_run(self, deployed: Deployed, *, force: bool = False) -> list[Change]:
        """Ask the server what a workflow would change; nothing is written.

        **Raises:** `ClusterError` for what the server refuses, `ValueError` for an object
        of another owner in the way.
        """
        self.keeper.load()
        return changes(self.cluster, deployed, self.keeper, force=force)

    def carry_out(self, deployed: Deployed, *, force: bool = False) -> DeploymentStatus:
        """Apply a workflow and wait until it is ready; else go back to the last good one.

        **Raises:** `RolloutFailed`, `ClusterError`, `ValueError` for foreign objects.
        """
        record = self.keeper.load()
        self.keeper.save(dataclasses.replace(record, wanted=deployed))
        return self._finish(record, deployed, force)

    def resume(self) -> DeploymentStatus:
        """Go on with what is on record: a rollout that was cut short, or one that is done.

        Objects that were deleted or changed meanwhile are applied again.
        """
        record = self.keeper.load()
        return self._finish(record, wanted_of(record, self.workflow), force=False)

    def _finish(
        self, record: DeploymentRecord, deployed: Deployed, force: bool
    ) -> DeploymentStatus:
        """Apply, wait, then confirm; or go back to what `record` has as the last good."""
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

    def move(self, nodes: Mapping[str, str], reason: str) -> DeploymentStatus:
        """Move replicas to other nodes; go back if they do not get ready there."""
        record = self.keeper.load()
        before = wanted_of(record, self.workflow)
        wanted = dataclasses.replace(before, nodes=dict(nodes))
        self.event("Moving", reason)
        self.keeper.save(dataclasses.replace(record, wanted=wanted))
        status = self.settle()
        if status.settled:
            now = self.keeper.load()
            self.keeper.save(dataclasses.replace(now, good=now.wanted))
            return status
        self._go_back(record, "; ".join(status.problems) or "it did not get ready")

    def roll_back(self) -> Deployed:
        """Return to the last good deployment before the present one."""
        record = self.keeper.load()
        back = record.good if record.good != record.wanted else record.previous
        if back is None:
            raise ValueError(
                "`sedma deploy rollback` needs an earlier deployment of "
                f"{self.workflow.name} that got ready. There is none on record. Apply one."
            )
        self._return_to(record, back)
        self.event("RolledBack", "To the last good deployment, as asked for.")
        return back

    def settle(self, seconds: float | None = None) -> DeploymentStatus:
        """Step until all is ready, for at most `seconds`; return the last status."""
        end = self.clock() + (self.settings.deadline if seconds is None else seconds)
        healed = False
        while True:
            status = self.reconciler.step()
            self.report(status)
            self._say_what_is_new(status)
            if status.lost:
                self.heal(status.lost)
                healed = True
            elif status.settled or self.clock() >= end:
                if healed and status.settled:
                    self.event("Healed", f"{status.ready} replicas are ready.")
                return status
            self.wait(min(self.settings.interval, max(0.0, end - self.clock())))

    def _say_what_is_new(self, status: DeploymentStatus) -> None:
        for line in status.done:
            self.said(line)
        for node in status.away:
            if node not in self._away and node not in status.lost:
                self.said(
                    f"{node} is not ready; after {self.settings.lost_after:g} s it counts "
                    "as lost"
                )
        for node in self._away:
            if node not in status.away:
                self.said(f"{node} is ready again")
        self._away = status.away

    def wait(self, seconds: float) -> bool:
        """Wait for a change of a pod, at most `seconds`; return whether there was one."""
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
            nodes = place_anew(record.wanted, rooms)
        except Infeasible as error:
            self.event("NoRoom", str(error), warning=True)
            raise RolloutFailed(
                f"{self.workflow.name} lost {', '.join(lost)}, and the rest has no room: "
                f"{error} What runs elsewhere was left as it is."
            ) from error
        moves = [
            f"{name} {record.wanted.nodes.get(name)} -> {node}"
            for name, node in nodes.items()
            if record.wanted.nodes.get(name) != node
        ]
        self.event(
            "NodeLost",
            f"{', '.join(lost)}; its replicas are placed anew: {', '.join(moves)}.",
        )
        wanted = dataclasses.replace(record.wanted, nodes=nodes)
        good = wanted if record.good == record.wanted else record.good
        self.keeper.save(dataclasses.replace(record, wanted=wanted, good=good))

    def event(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Write an Event that says what happened; a failure to write it stops nothing."""
        self.said(f"{reason}: {message}")
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

    def _confirm(self, before: DeploymentRecord) -> None:
        """Note that what is wanted got ready."""
        record = self.keeper.load()  # healing may have changed the nodes meanwhile
        same = before.good is None or before.good.workflow == _workflow(record)
        previous = before.previous if same else before.good
        self.keeper.save(dataclasses.replace(record, good=record.wanted, previous=previous))

    def _go_back(self, record: DeploymentRecord, said: str) -> NoReturn:
        """Return to the last good deployment of `record`, and raise `RolloutFailed`."""
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

    def _return_to(self, record: DeploymentRecord, back: Deployed) -> None:
        """Apply an earlier deployment again, and wait until it is ready."""
        self.keeper.save(dataclasses.replace(record, wanted=back, sizes={}))
        apply_objects(self.cluster, back, self.keeper)
        # It got ready before, so a short deadline for new deployments does not apply.
        status = self.settle(max(self.settings.deadline, 120.0))
        if not status.settled:
            said = "; ".join(status.problems)
            raise RolloutFailed(
                f"{self.workflow.name} went back to its last good deployment, which is not "
                f"ready either: {said}. See `kubectl get events`."
            )
        record = self.keeper.load()
        self.keeper.save(dataclasses.replace(record, good=record.wanted, previous=None))


def _workflow(record: DeploymentRecord) -> Workflow | None:
    return record.wanted and record.wanted.workflow
