"""How a pod gets its node: by affinity in compiled files, behind a gate on a cluster.

Compiled manifests name the nodes of an agent in a required affinity, and the scheduler
spreads the replicas over them. The controller instead starts every pod of a placed
workflow with a scheduling gate, and takes the gate away when it writes the pod's node.
Neither the gate nor the node is part of the template's revision of a Deployment, so a move
does not start a rollout.
"""

from .._json import JsonObject

GATE = "sedma-jax/placement"  # a pod waits behind it until its node is chosen
HOST = "kubernetes.io/hostname"  # the label of a node that names it


def node_affinity(nodes: list[str]) -> JsonObject:
    """Write the affinity that restricts a pod to these nodes."""
    terms = [
        {
            "matchExpressions": [
                {"key": HOST, "operator": "In", "values": sorted(set(nodes))}
            ]
        }
    ]
    required = {"nodeSelectorTerms": terms}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def gates() -> list[JsonObject]:
    """Write the `schedulingGates` of a pod that waits for its node."""
    return [{"name": GATE}]


def node_assignment(node: str) -> JsonObject:
    """Write the change of a gated pod's spec that gives it a node and opens the gate."""
    return {"nodeSelector": {HOST: node}, "schedulingGates": None}


def waits_for_node(spec: JsonObject) -> bool:
    """Whether the pod with this spec still waits behind the gate."""
    return any(gate["name"] == GATE for gate in spec.get("schedulingGates") or [])


def node_of(spec: JsonObject) -> str | None:
    """Read the node of a pod with this spec, None while it waits for one.

    A pod without a gate that is not bound yet already holds the room it was given.
    """
    if waits_for_node(spec):
        return None
    return spec.get("nodeName") or (spec.get("nodeSelector") or {}).get(HOST)
