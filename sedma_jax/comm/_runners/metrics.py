"""Metrics of a node for Prometheus, read at each scrape from the node's own counters."""

from collections.abc import Callable, Iterator

from ..._extras import install_hint
from .._node.node import Node

try:
    from prometheus_client import (
        CONTENT_TYPE_LATEST as CONTENT_TYPE_LATEST,
        CollectorRegistry,
        generate_latest as generate_latest,
        start_http_server,
    )
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
except ImportError as error:
    raise ImportError(
        "`sedma_jax.comm` needs prometheus-client, which is not installed. "
        f"{install_hint('comm')}"
    ) from error


class NodeCollector:
    """Metrics of one node."""

    def __init__(self, node: Node):
        self._node = node

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        node, store = self._node, self._node.store
        for name, text, value in (
            ("connections", "open connections", len(node.connected())),
            ("tensors", "tensors in memory", len(store)),
            ("store_bytes", "bytes taken by tensors", store.used),
            ("store_capacity_bytes", "bytes that tensors may take", store.capacity),
        ):
            yield GaugeMetricFamily(f"sedma_{name}", text, value)
        for name, text, value in (
            ("cache_hits", "requested tensors that were in memory", store.hits),
            ("cache_misses", "requested tensors that were not", store.misses),
            ("cache_evictions", "tensors evicted", store.evictions),
            ("served_bytes", "bytes of tensors sent", sum(node.served_bytes.values())),
        ):
            yield CounterMetricFamily(f"sedma_{name}", text, value)
        rtt = GaugeMetricFamily("sedma_peer_rtt_seconds", "round trip", labels=["peer"])
        success = GaugeMetricFamily(
            "sedma_peer_success", "share of transfers completed", labels=["peer"]
        )
        connected = set(node.connected())
        for peer in node.peers:
            if peer.name in connected:  # otherwise the labels would grow without end
                rtt.add_metric([peer.name], peer.rtt_ms / 1000)
                success.add_metric([peer.name], peer.success)
        yield rtt
        yield success


def serve_metrics(
    node: Node, port: int, address: str = "127.0.0.1"
) -> tuple[Callable[[], None], int]:
    """Answer scrapes on `port`, 0 for any; a function that ends it, and the port."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(node))
    server, thread = start_http_server(port, address, registry)

    def stop():
        server.shutdown()
        server.server_close()
        thread.join(5)

    return stop, server.server_port
