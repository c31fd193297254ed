"""Serve the health and the metrics of a service over HTTP.

- `/healthz`: 200 while the event loop runs, otherwise 503: the process should be killed.
- `/readyz`: 200 while jobs are accepted, otherwise 503.
- `/metrics`: metrics for Prometheus.
"""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trio

from .._runners.metrics import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    NodeCollector,
    generate_latest,
)
from .service import JobService

_BEAT = 1.0  # seconds
_DEAD_AFTER = 30.0


class JobCollector:
    """Metrics of a service."""

    def __init__(self, service: JobService):
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        service, counts = self._service, self._service.counts
        jobs = GaugeMetricFamily("sedma_jobs", "jobs in the journal", labels=["state"])
        for state, number in service.journal.counts().items():
            jobs.add_metric([state], number)
        yield jobs
        oldest = service.journal.oldest()
        yield GaugeMetricFamily(
            "sedma_job_oldest_seconds",
            "time that the oldest queued job has waited",
            0.0 if oldest is None else max(time.time() - oldest, 0.0),
        )
        yield GaugeMetricFamily(
            "sedma_draining", "1 while the service shuts down", float(service.draining)
        )
        ended = CounterMetricFamily(
            "sedma_jobs_ended", "since the start", labels=["result"]
        )
        ended.add_metric(["done"], counts.done)
        ended.add_metric(["failed"], counts.failed)
        yield ended
        for name, text, value in (
            ("jobs_accepted", "jobs taken since the start", counts.accepted),
            ("jobs_refused", "jobs refused since the start", counts.refused),
            ("job_seconds", "time spent on jobs that ended", counts.seconds),
        ):
            yield CounterMetricFamily(f"sedma_{name}", text, value)


class Health:
    """The HTTP server of a service, in threads of its own."""

    def __init__(self, service: JobService, host: str, port: int):
        registry = CollectorRegistry()
        registry.register(NodeCollector(service.node))
        registry.register(JobCollector(service))
        self._beat = time.monotonic()
        answer_to = self._answer

        class Answers(BaseHTTPRequestHandler):
            timeout = 10  # seconds for a request to arrive completely

            def do_GET(self) -> None:
                status, content, *kind = answer_to(service, registry, self.path)
                self.send_response(status)
                self.send_header("Content-Type", *kind or ["text/plain; charset=utf-8"])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *_: object) -> None:
                pass

        # A host may be an IPv6 address, or a name that has one alone.
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )

        class Server(ThreadingHTTPServer):
            address_family = found[0][0]

            def server_bind(self) -> None:
                if self.address_family == socket.AF_INET6 and host == "::":
                    # As on a pod of two families: IPv4 is to be answered, too.
                    self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                super().server_bind()

        self._server = Server((host, port), Answers)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _answer(self, service: JobService, registry: CollectorRegistry, path: str) -> tuple:
        """Status, content, and the content type if it is not plain text."""
        if path == "/metrics":
            return 200, generate_latest(registry), CONTENT_TYPE_LATEST
        if path == "/healthz":
            well = time.monotonic() - self._beat < _DEAD_AFTER
            return (200, b"ok\n") if well else (503, b"the event loop stands still\n")
        if path == "/readyz":
            if service.accepting():
                return 200, b"ok\n"
            return 503, b"draining\n" if service.draining else b"the queue is full\n"
        return 404, b"/healthz, /readyz, /metrics\n"

    async def beat(self) -> None:
        """Note that the event loop runs, until cancelled."""
        while True:
            self._beat = time.monotonic()
            await trio.sleep(_BEAT)

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
