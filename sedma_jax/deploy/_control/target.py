"""A cluster to deploy to, and what came of it."""

import dataclasses

import jax

from ..._trace import Trace
from .._workflow.specification import Workflow


@dataclasses.dataclass(frozen=True)
class Target:
    """A cluster, and how to roll out there.

    - `kubeconfig`: file; left out, as kubectl finds it. `context`: of that file.
    - `timeout`: seconds to be ready.
    - `lost_after`: seconds that a node may be silent.
    - `force`: whether to take fields that others manage.
    """

    kubeconfig: str | None = None
    context: str | None = None
    timeout: float = 300.0
    lost_after: float = 30.0
    force: bool = False


@dataclasses.dataclass(frozen=True)
class Applied:
    """What came of a roll-out.

    - `ready`: replicas that are ready, all of them.
    - `placement`: the node of every replica; empty where the workflow names no nodes.
    - `objects`: how many were created, changed, pruned and left the same.
    """

    ready: int
    placement: dict[str, str]
    objects: dict[str, int]


def apply(
    workflow: Workflow,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    key: jax.Array,
) -> Applied:
    """Deploy a workflow to a cluster, and wait until all of it is ready.

    The server first tries everything as a dry run; if it refuses anything, nothing is
    written. What does not get ready is taken back.

    **Arguments:**

    - `target`: the cluster; the current context if left out.
    - `trace`: where the stages are recorded: dry-run, apply.
    - `key`: of the placement.

    **Raises:** `ValueError` where there is no such context, no placement, or objects of
    others in the way; `ClusterError` (a `RuntimeError`) for what the server refuses;
    `RolloutFailed` (another) where it did not get ready.
    """
    from .rollout import roll_out  # it needs the client, which files do not

    return roll_out(workflow, target or Target(), trace or Trace(), key)
