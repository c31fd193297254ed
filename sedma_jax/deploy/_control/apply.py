"""Bring a workflow to a cluster: connect, place, try as a dry run, roll out.

`sedma_jax.deploy.apply` and `sedma deploy apply` both call `roll_out`; what it does on the
cluster is the controller's `dry_run` and `carry_out`.
"""

import contextlib
import os
import socket
import uuid
from collections import Counter
from collections.abc import Iterator

import jax

from ..._trace import Trace
from .._placing.deployed import Deployed
from .._placing.placing_anew import place_anew
from .._placing.problem import replica_names
from .._workflow.specification import Workflow
from .cluster import Cluster
from .controller import Controller, Report, silent
from .lease import Lease
from .observe import observe
from .reconcile import Settings
from .target import Applied, Target


def apply(
    workflow: Workflow,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    key: jax.Array,
) -> Applied:
    """Deploy a workflow to a cluster, and wait until all of it is ready.

    The server first tries everything as a dry run; if it refuses anything, nothing is
    written. A deployment that does not get ready is taken back.

    **Arguments:**

    - `workflow`: what to deploy.
    - `target`: the cluster; the current context if left out.
    - `trace`: records the stages `dry-run` and `apply`.
    - `key`: for the placement.

    **Returns:** what came of it: replicas, placement, and numbers of objects.

    **Raises:** `ValueError` if there is no such context, no placement, or an object of
    someone else in the way; `ClusterError` for what the server refuses; `LeaseLost` while
    another controller leads; `RolloutFailed` if the deployment did not get ready. The last
    three are `RuntimeError`s.

    **Example:**

        >>> flow = sj.deploy.default_workflow()
        >>> nowhere = sj.deploy.Target(kubeconfig="none.yaml")
        >>> sj.deploy.apply(flow, nowhere, key=jr.key(0))
        Traceback (most recent call last):
        ValueError: A cluster needs a kubeconfig. Got none.yaml: ...
    """
    return roll_out(workflow, target or Target(), trace=trace or Trace(), key=key)


def roll_out(
    workflow: Workflow,
    target: Target,
    *,
    trace: Trace,
    report: Report = silent,
    key: jax.Array,
) -> Applied:
    """Do what `apply` says, and report every status on the way."""
    with contextlib.ExitStack() as held:
        with trace.stage("dry-run") as said:
            controller = connect(workflow, target, report)
            held.enter_context(lease_of(controller))
            deployed = placed_on(controller, key)
            changes = controller.dry_run(deployed, force=target.force)
            objects = dict(Counter(change.action for change in changes))
            said |= {"objects": objects}
        with interruptible(), trace.stage("apply") as said:
            status = controller.carry_out(deployed, force=target.force)
            said |= {"ready": status.ready}
    return Applied(status.ready, dict(deployed.nodes), objects)


def connect(workflow: Workflow, target: Target, report: Report = silent) -> Controller:
    """Make the controller of a workflow on a cluster.

    **Raises:** `ValueError` if there is no such kubeconfig or context.
    """
    cluster = Cluster.connect(target.kubeconfig, target.context)
    settings = Settings(deadline=target.timeout, lost_after=target.lost_after)
    return Controller(cluster, workflow, settings, report=report)


def lease_of(controller: Controller) -> Lease:
    """Make the lease that one process at a time holds to change a workflow."""
    workflow = controller.workflow
    identity = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    name = f"sedma-{workflow.name}"
    return Lease(controller.cluster, name, workflow.namespace, identity)


def placed_on(controller: Controller, key: jax.Array) -> Deployed:
    """Place a workflow near the optimum; moves count if it runs already."""
    workflow, record = controller.workflow, controller.keeper.load()
    if not workflow.nodes:
        return Deployed(workflow, {})
    old = record.wanted.nodes if record.wanted else {}
    names = set(replica_names(workflow))
    kept = {name: node for name, node in old.items() if name in names}
    seen = observe(controller.cluster, workflow)
    rooms = controller.reconciler.rooms_of(workflow, seen, ())
    return Deployed(workflow, place_anew(Deployed(workflow, kept), rooms, key=key))


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Say in a `RuntimeError` what an interrupted roll-out leaves."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise RuntimeError(
            "`sedma deploy` was interrupted. The record on the cluster has what is wanted. "
            "`sedma deploy watch` or `apply` goes on with it; `rollback` takes it back."
        ) from error
