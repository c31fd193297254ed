"""A node and its peers as records for JSON."""

import numpy as np

from .node import Node


async def described_peers(node: Node) -> list[dict]:
    """The peers that a node knows."""
    connected = set(node.connected())
    peers = list(node.peers)
    weights = np.asarray(node.peers.learner.model.weights)
    scores = node.peers.terms([p.name for p in peers]) @ weights if peers else []
    return [
        {
            "id": peer.name,
            "connected": peer.name in connected,
            "score": float(score),
            "rtt_ms": peer.rtt_ms,
            "success": peer.success,
            "idle": peer.idle,
            "memory_free": peer.memory_free,
            "zone": peer.zone,
            "relayed": peer.relayed,
            "trusted": node.peers.usable(peer.name),
        }
        for peer, score in zip(peers, scores, strict=True)
    ]


async def node_status(node: Node) -> dict:
    """The node itself."""
    model = node.peers.learner.model
    return {
        "id": node.name,
        "addresses": node.addresses,
        "same_key": node.same_key,
        "connected": sorted(node.connected()),
        "reachable": node.relaying.reachable,
        "punched": node.relaying.punching.succeeded,
        "not_punched": node.relaying.punching.failed,
        "tensors": len(node.store),
        "bytes": node.store.used,
        "pinned_bytes": node.store.pinned_bytes,
        "capacity": node.store.capacity,
        "in_memory": node.store.in_memory,
        "on_disk": node.tiers.disk is not None,
        "damaged": node.tiers.damaged,
        "hits": node.store.hits,
        "misses": node.store.misses,
        "evictions": node.store.evictions,
        "weights": [float(w) for w in model.weights],
        "served_bytes": sum(node.served_bytes.values()),
    }
