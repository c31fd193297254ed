"""Make the Secret of a workflow, from which its agents derive their libp2p keys.

It is only ever created, never read: the Role of a controller then needs no right to read
Secrets. One that is there already stays, whoever made it; agents refuse a weak one.
"""

import secrets

from .._json import JsonObject
from .._manifests.agent_objects import speaks_libp2p
from .._manifests.objects import kubernetes_object, labels, secret_name
from .._workflow.specification import Workflow
from .cluster import Cluster, ClusterError

_BYTES = 32  # random ones


def made_secret(
    cluster: Cluster,
    workflow: Workflow,
    owner: JsonObject | None,
    *,
    dry_run: bool = False,
) -> str | None:
    """Make the Secret unless there is one.

    **Returns:** its name if it was made; None if it was there, or no agent needs it.
    """
    if not any(speaks_libp2p(workflow, agent) for agent in workflow.agents):
        return None
    name = secret_name(workflow)
    meta = {"name": name, "namespace": workflow.namespace, "labels": labels(workflow)}
    if owner:
        meta["ownerReferences"] = [owner]
    # A secret that changed under running agents would part them from new ones.
    body = kubernetes_object(
        "v1",
        "Secret",
        meta,
        immutable=True,
        stringData={"SEDMA_SECRET": secrets.token_hex(_BYTES)},
    )
    try:
        cluster.create(body, dry_run=dry_run)
    except ClusterError as error:
        if error.status == 409:
            return None
        raise
    return name
