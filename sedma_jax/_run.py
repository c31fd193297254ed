"""Algorithm 1: a product that memory steers, published to peers and deployed."""

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

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
"""What comes after the product, in this order."""


@dataclass(frozen=True)
class Delivery:
    """What became of a product after it was computed.

    - `publication`: its CID and the peers that hold it, or None where that failed.
    - `choice`: `recalled` or `explored`: whether memory had that placement.
    - `placement`: where each replica of the workflow goes, and the cost; see
        `sedma_jax.deploy.describe`. None where that failed, or the workflow has no nodes.
    - `files`: text of the deployment's files by path: manifests, Dockerfile, compose file.
    - `applied`: what came of the roll-out; None where that failed or was not asked for.
    - `failed`: what went wrong by stage, `publish`, `deploy`, `dry-run` or `apply`, and
        what to do.
    - `seconds`: of wall time, by stage.
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
    - `trace`: of each stage, in the order of their beginnings, its name, start and seconds
        of wall time, and what came of it.
    """

    y: Float[Array, "*batch m"]
    info: "AdaptiveInfo"
    delivery: Delivery
    trace: list[dict[str, Any]]


def run(
    A: Matrix,
    x: Vectors,
    *,
    device: Device | Pool,
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
    - `memory`: from `sedma_jax.memory.open`; left out, the user's own, as `sedma memory`.
    - `peers`: addresses of peers to hold `y`; without any, three in this process. What
        each was like is recalled from `memory`, and written back.
    - `node_key`: file of the libp2p key by which peers know this node, made on first use;
        left out, each run has a new one, which peers let in that are open to all.
    - `workflow`: what to deploy, or its YAML file; left out, one agent that multiplies.
    - `cluster`: where to deploy it, `sedma_jax.deploy.Target()` for the current context;
        left out, files are made and nothing is applied.

    **Returns:**

    The product and what became of it. A stage after the product that fails is named in
    `delivery.failed`; what came before it is kept.

    **Raises:** `ValueError` as `sedma_jax.memory.adaptive_matvec` does and for a file that
    is no workflow or key, `PermissionError` for a key that others may read, `ImportError`
    where the extra `memory` is missing.
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
    return RunResult(y, info, delivery, trace.records)


def check_node_key(path: str | Path | None) -> None:
    """Make or read the key of a node before any work.

    **Raises:** `PermissionError` for one that others may read, `ValueError` for what is no
    key, `ImportError` where the extra `comm` is missing.
    """
    if path is not None:
        from . import comm

        comm.key_id(Path(path))


def read_workflow(workflow: "Workflow | str | Path | None") -> "Workflow | None":
    """A workflow, read from its file where it is named by one."""
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
    """Publish a product and deploy: the stages of `run` after the product.

    **Arguments:** as `run`, but without `memory` none is used; `stages` are those of
    `STAGES` to do. `apply` is done where there is a `cluster`, unless `deploy` failed.
    """
    failed: dict[str, str] = {}
    trace = (trace or Trace()).part()

    def attempt(name: str, work: Callable[[], Any]):
        if name not in stages:
            return None
        begun = len(trace.records)
        try:
            return work()
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            broken = [r["stage"] for r in trace.records[begun:] if "failed" in r]
            failed[broken[0] if broken else name] = one_line(error)
            return None

    def publish():
        with trace.stage("publish"):
            from . import comm

            # Peers in this process have new keys each time: none is worth remembering.
            return comm.publish(
                np.asarray(y),
                peers=peers,
                key=None if node_key is None else Path(node_key),
                memory=memory if peers else None,
            )

    def compile_workflow():
        with trace.stage("deploy") as said:
            from . import deploy

            chosen = workflow or deploy.default_workflow()
            placement, remembered = None, dict[str, Any](choice=None)
            if chosen.nodes:
                placement, remembered = deploy.remembered_plan(chosen, memory, key=key)
                said |= remembered
            described = deploy.describe(chosen, placement) if placement else None
            return described, remembered["choice"], deploy.compile(chosen, placement)

    def apply():
        from . import deploy

        chosen = workflow or deploy.default_workflow()
        return deploy.apply(chosen, cluster, trace=trace, key=key)

    publication = attempt("publish", publish)
    described, choice, files = attempt("deploy", compile_workflow) or (None, None, {})
    applied = None
    if cluster is not None and "deploy" not in failed:
        applied = attempt("apply", apply)
    return Delivery(publication, described, choice, files, applied, failed, trace.seconds())
