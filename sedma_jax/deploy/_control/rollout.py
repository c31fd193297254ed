"""Bring a workflow to a cluster: connect, place, dry run, roll out."""

import contextlib
import os
import socket
import uuid
from collections import Counter
from collections.abc import Iterator

import jax

from ..._trace import Trace
from .._placing.problem import replica_names
from .._placing.relocation import replaced
from .._workflow.specification import Workflow
from .cluster import Cluster
from .controller import Controller
from .lease import Lease
from .observe import observe
from .reconcile import Settings
from .record import Deployed
from .server_objects import changes
from .target import Applied, Target


def connect(workflow: Workflow, target: Target) -> Controller:
    """The controller of a workflow on a cluster.

    **Raises:** `ValueError` where there is no such kubeconfig or context.
    """
    cluster = Cluster.connect(target.kubeconfig, target.context)
    settings = Settings(deadline=target.timeout, lost_after=target.lost_after)
    return Controller(cluster, workflow, settings)


def lease_of(controller: Controller) -> Lease:
    """What one process at a time holds to change a workflow."""
    workflow = controller.workflow
    identity = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    name = f"sedma-{workflow.name}"
    return Lease(controller.cluster, name, workflow.namespace, identity)


def placed_on(controller: Controller, key: jax.Array) -> Deployed:
    """The workflow on nodes: near the optimum, with moves counted if it runs already."""
    workflow, record = controller.workflow, controller.keeper.load()
    if not workflow.nodes:
        return Deployed(workflow, {})
    old = record.wanted.nodes if record.wanted else {}
    names = set(replica_names(workflow))
    kept = {name: node for name, node in old.items() if name in names}
    seen = observe(controller.cluster, workflow)
    rooms = controller.reconciler.rooms_of(workflow, seen, ())
    return Deployed(workflow, replaced(Deployed(workflow, kept), rooms, key=key))


def roll_out(workflow: Workflow, target: Target, trace: Trace, key: jax.Array) -> Applied:
    """See `sedma_jax.deploy.apply`."""
    with contextlib.ExitStack() as stack:
        with trace.stage("dry-run") as said:
            controller = connect(workflow, target)
            stack.enter_context(lease_of(controller))
            deployed = placed_on(controller, key)
            found = changes(
                controller.cluster, deployed, controller.keeper, force=target.force
            )
            objects = dict(Counter(change.action for change in found))
            said |= {"objects": objects}
        with interruptible(), trace.stage("apply") as said:
            status = controller.roll_out(deployed, force=target.force)
            said |= {"ready": status.ready}
    return Applied(status.ready, dict(deployed.nodes), objects)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Say what an interrupted roll-out leaves, as a `RuntimeError`."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise RuntimeError(
            "interrupted; the record of the cluster has what is wanted. `sedma deploy "
            "watch` or `apply` goes on with it, `rollback` takes it back."
        ) from error
