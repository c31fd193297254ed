"""Algorithm 1: a product that memory steers, published to peers and deployed.

`run` is the algorithm. Its first half, `sedma_jax.memory.adaptive_matvec`, recalls what is
known of such matrices, partitions the matrix, programs the arrays, multiplies and corrects,
and writes back what was learnt. Its second half, `deliver`, publishes the product to peers,
then places and compiles the workflow, then applies it to a cluster.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._files.read_files import check_input
from ._keys import split_key
from ._tiling.partition import Matrix, Vectors
from ._tiling.pool import Pool
from ._trace import Trace, one_line
from .kernels import Device

if TYPE_CHECKING:  # extras
    from .comm import Publication
    from .deploy import Applied, Target, Workflow
    from .memory import AdaptiveInfo, Memory


STAGES = ("publish", "deploy", "apply")
"""The stages after the product, in their order."""


@dataclass(frozen=True)
class Delivery:
    """What became of a product after it was computed.

    - `publication`: its CID and the peers that hold it; None if publishing failed.
    - `placement`: where each replica of the workflow goes, and the cost; see
        `sedma_jax.deploy.describe`. None if that failed, or if the workflow has no nodes.
    - `choice`: `recalled` if memory had that placement, else `explored`.
    - `files`: text of the deployment's files by path: manifests, Dockerfile, compose file.
    - `applied`: result of the roll-out; None if it failed or was not asked for.
    - `failed`: for each stage that failed (`publish`, `deploy`, `dry-run` or `apply`),
        what went wrong and what to do.
    - `seconds`: wall time of each stage.

    **Example:**

        >>> memory = sj.memory.open("sqlite://")
        >>> A, x = np.eye(16), np.ones(16)
        >>> result = sj.run(A, x, device="epiram", memory=memory, key=jr.key(0))
        >>> delivery = result.delivery
        >>> delivery.failed, delivery.placement["placement"]
        ({}, {'crossbar-0': 'localhost'})
    """

    publication: "Publication | None"
    placement: dict[str, Any] | None
    choice: str | None
    files: dict[str, str]
    applied: "Applied | None"
    failed: dict[str, str]
    seconds: dict[str, float]


@dataclass(frozen=True)
class RunResult:
    """The result of Algorithm 1.

    - `y`: the corrected product.
    - `info`: what was recalled, chosen, measured and written back.
    - `delivery`: peers and deployment.
    - `trace`: a record of each stage, in the order in which they began: its name
        (`stage`), its `start` and wall time (`seconds`), in seconds, and its outcome.

    **Example:**

        >>> memory = sj.memory.open("sqlite://")
        >>> A, x = np.eye(16), np.ones(16)
        >>> result = sj.run(A, x, device="epiram", memory=memory, key=jr.key(0))
        >>> result.trace[0]["stage"], bool(result.trace[0]["seconds"] > 0)
        ('classify', True)
    """

    y: Float[Array, "*batch m"]
    info: "AdaptiveInfo"
    delivery: Delivery
    trace: list[dict[str, Any]]


def run(
    A: Matrix,
    x: Vectors,
    *,
    device: Device | Pool | str,
    memory: "Memory | None" = None,
    peers: Sequence[str] = (),
    node_key: str | Path | None = None,
    workflow: "Workflow | str | Path | None" = None,
    cluster: "Target | None" = None,
    key: PRNGKeyArray,
) -> RunResult:
    """Perform Algorithm 1: recall, partition, program, correct, publish and deploy.

    Needs the extras `memory`, `comm` and `deploy`.

    **Arguments:**

    - `A`, `x`: as in `corrected_matvec`.
    - `device`: the pool of arrays, or a device of which there are 64 arrays of 256 x 256.
    - `memory`: from `sedma_jax.memory.open`. By default the user's own, which
        `sedma memory` shows.
    - `peers`: addresses of peers to hold `y`. By default three peers in this process hold
        it. The profile of each named peer is recalled from `memory` and written back.
    - `node_key`: file of the libp2p key by which peers know this node, made on first use.
        By default each run has a new key, which only peers that are open to all let in.
    - `workflow`: what to deploy, or its YAML file. By default one agent that multiplies.
    - `cluster`: where to deploy it; `sedma_jax.deploy.Target()` is the current context. By
        default the files are made and nothing is applied.

    **Returns:**

    The product and what became of it. If a stage after the product fails,
    `delivery.failed` names it, and the results of the stages before it are kept.

    **Raises:** `ValueError` as `sedma_jax.memory.adaptive_matvec` does, and for a file that
    is not a workflow or a key; `PermissionError` for a key that others may read;
    `ImportError` if the extra `memory` is missing.

    **Example:**

        >>> memory = sj.memory.open("sqlite://")  # forgotten at the end
        >>> A, x = np.eye(16), np.ones(16)
        >>> result = sj.run(A, x, device="epiram", memory=memory, key=jr.key(0))
        >>> bool(jnp.max(jnp.abs(result.y - A @ x)) < 0.05)
        True
        >>> "Dockerfile" in result.delivery.files  # and nothing is applied
        True
    """
    from . import memory as long_term

    workflow = read_workflow(workflow)
    check_node_key(node_key)
    product_key, place_key = split_key(key)
    trace = Trace()
    own = long_term.open(long_term.default_url()) if memory is None else nullcontext(memory)
    with own as memory:
        y, info, _ = long_term.adaptive_matvec(
            A, x, device, memory=memory, trace=trace, key=product_key
        )
        delivery = deliver(
            y,
            peers=peers,
            node_key=node_key,
            workflow=workflow,
            cluster=cluster,
            memory=memory,
            trace=trace,
            key=place_key,
        )
    return RunResult(y=y, info=info, delivery=delivery, trace=trace.records)


def check_node_key(path: str | Path | None) -> None:
    """Read the key of a node, or make it, before any work is done.

    **Raises:** `PermissionError` for a key that others may read, `ValueError` for a file
    that is not a key, `ImportError` if the extra `comm` is missing.
    """
    if path is not None:
        from . import comm

        check_input(path, "`node_key`")
        comm.key_id(Path(path))


def read_workflow(workflow: "Workflow | str | Path | None") -> "Workflow | None":
    """The workflow itself, or the one in the file that is named."""
    if not isinstance(workflow, str | Path):
        return workflow
    from . import deploy

    return deploy.load_workflow(workflow)


def deliver(
    y: Float[Array, "*batch m"] | np.ndarray,
    *,
    peers: Sequence[str] = (),
    node_key: str | Path | None = None,
    workflow: "Workflow | None" = None,
    cluster: "Target | None" = None,
    memory: "Memory | None" = None,
    stages: Collection[str] = STAGES,
    trace: Trace | None = None,
    key: PRNGKeyArray,
) -> Delivery:
    """Publish a product and deploy a workflow: the stages of `run` after the product.

    **Arguments:** as for `run`, except that no memory is used unless one is given.
    `stages` are those of `STAGES` to perform; `apply` also needs a `cluster`, and is left
    out if `deploy` failed.
    """
    failed: dict[str, str] = {}
    trace = (trace or Trace()).part()

    def attempt(stage: str, step: Callable[[], Any]) -> Any:
        """The result of a stage, or None if it is not wanted or fails."""
        if stage not in stages:
            return None
        begun = len(trace.records)
        try:
            return step()
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            broken = [r["stage"] for r in trace.records[begun:] if "failed" in r]
            failed[broken[0] if broken else stage] = one_line(error)
            return None

    publication = attempt("publish", lambda: _publish(y, peers, node_key, memory, trace))
    compiled = attempt("deploy", lambda: _compile(workflow, memory, trace, key))
    placement, choice, files = compiled or (None, None, {})
    applied = None
    if cluster is not None and "deploy" not in failed:
        applied = attempt("apply", lambda: _apply(workflow, cluster, trace, key))
    return Delivery(
        publication=publication,
        placement=placement,
        choice=choice,
        files=files,
        applied=applied,
        failed=failed,
        seconds=trace.seconds(),
    )


def _publish(
    y: Float[Array, "*batch m"] | np.ndarray,
    peers: Sequence[str],
    node_key: str | Path | None,
    memory: "Memory | None",
    trace: Trace,
) -> "Publication":
    """Put the product on peers."""
    with trace.stage("publish"):
        from . import comm

        return comm.publish(
            np.asarray(y),
            peers=peers,
            key=None if node_key is None else Path(node_key),
            # Peers in this process have new keys each time: none is worth remembering.
            memory=memory if peers else None,
        )


def _compile(
    workflow: "Workflow | None", memory: "Memory | None", trace: Trace, key: PRNGKeyArray
) -> tuple[dict[str, Any] | None, str | None, dict[str, str]]:
    """Place a workflow and write its files: the placement, its choice and the files."""
    with trace.stage("deploy") as outcome:
        from . import deploy

        workflow = workflow or deploy.default_workflow()
        placement, choice, described = None, None, None
        if workflow.nodes:
            placement, remembered = deploy.remembered_plan(workflow, memory, key=key)
            outcome |= remembered
            choice = remembered["choice"]
            if placement:
                described = deploy.describe(workflow, placement)
        return described, choice, deploy.compile(workflow, placement)


def _apply(
    workflow: "Workflow | None", cluster: "Target", trace: Trace, key: PRNGKeyArray
) -> "Applied":
    """Roll a workflow out on a cluster."""
    from . import deploy

    workflow = workflow or deploy.default_workflow()
    return deploy.apply(workflow, cluster, trace=trace, key=key)
