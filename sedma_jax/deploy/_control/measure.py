"""Measure a deployment: throughput and traffic by Prometheus, usage by the metrics API."""

import dataclasses
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from .._json import JsonObject
from .._workflow.quantity import parse_quantity
from .cluster import Cluster, ClusterError

_LARGEST = 16 * 2**20  # bytes of an answer
_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One measurement; a part that no source gives is None.

    - `performance`: of the whole workflow; more is better.
    - `nodes`: GB and cores used on every node.
    - `pods`: GB and cores used by every pod.
    - `traffic`: MB/s by the names of the agent that calls and the one that is called.
    - `problems`: why a part is None although there is a source for it.
    """

    performance: float | None = None
    nodes: dict[str, tuple[float, float]] | None = None
    pods: dict[str, tuple[float, float]] | None = None
    traffic: dict[tuple[str, str], float] | None = None
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Prometheus:
    """A Prometheus server and what to ask it.

    - `url`: such as `http://prometheus:9090`.
    - `performance`: PromQL for one number, more is better, that does not fall merely
        because less is asked for: answers per second over requests per second, or
        1 / latency.
    - `traffic`: PromQL for bytes per second with the labels `source` and `target`.
    """

    url: str
    performance: str
    traffic: str | None = None

    def __post_init__(self):
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(
                f"Prometheus needs a URL of http or https. Got {self.url[:80]!r}. Write "
                "http://HOST:9090."
            )

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Give the labels and values of an instant query; infinite ones and NaN left out.

        **Raises:** `ConnectionError`.
        """
        # https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries
        address = f"{self.url.rstrip('/')}/api/v1/query?" + urllib.parse.urlencode(
            {"query": query}
        )
        try:
            with urllib.request.urlopen(address, timeout=_SECONDS) as answer:
                content = answer.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise ValueError(f"more than {_LARGEST} bytes")
            result = json.loads(content)["data"]["result"]
            if isinstance(result, list) and result and not isinstance(result[0], dict):
                result = [{"metric": {}, "value": result}]  # a scalar
            found = [
                (
                    {str(k): str(v) for k, v in row["metric"].items()},
                    float(row["value"][1]),
                )
                for row in result
            ]
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ConnectionError(
                f"Prometheus at {self.url} did not answer {query!r}: {error}. Check the "
                "URL and the query."
            ) from error
        return [(labels, value) for labels, value in found if math.isfinite(value)]


def measure(cluster: Cluster, namespace: str, prometheus: Prometheus | None) -> Measurement:
    """Measure now. A source that fails leaves its part None, and so moves nothing."""
    performance, traffic = None, None
    problems: list[str] = []
    if prometheus:
        try:
            found = prometheus.ask(prometheus.performance)
            performance = found[0][1] if len(found) == 1 else None
            if performance is None:
                problems.append(
                    f"{prometheus.performance!r} needs to give one finite number. Got "
                    f"{len(found)}"
                )
            if prometheus.traffic:
                traffic = {
                    (labels.get("source", ""), labels.get("target", "")): value / 1e6
                    for labels, value in prometheus.ask(prometheus.traffic)
                }
        except ConnectionError as error:
            problems.append(str(error))
    base = "/apis/metrics.k8s.io/v1beta1"
    nodes = _usage(cluster, f"{base}/nodes", lambda item: [item["usage"]])
    pods = _usage(
        cluster,
        f"{base}/namespaces/{namespace}/pods",
        lambda item: [c["usage"] for c in item["containers"]],
    )
    if nodes is None or pods is None:
        problems.append("the metrics API says nothing: use of memory and CPU is unknown")
    return Measurement(
        performance=performance,
        nodes=nodes,
        pods=pods,
        traffic=traffic,
        problems=tuple(problems),
    )


def _usage(
    cluster: Cluster, path: str, parts: Callable[[JsonObject], list[JsonObject]]
) -> dict[str, tuple[float, float]] | None:
    """GB and cores used by every item that the metrics API lists at `path`."""
    try:
        items = cluster.read(path)["items"]
        return {
            item["metadata"]["name"]: (
                sum(float(parse_quantity(u["memory"])) for u in parts(item)) / 1e9,
                sum(float(parse_quantity(u["cpu"])) for u in parts(item)),
            )
            for item in items
        }
    except (ClusterError, KeyError, TypeError, ValueError):
        return None  # there is no metrics-server, or it is not ready
