"""Run a node as a daemon: control socket, metrics, signals, structured logs."""

import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import trio

from ..._long_term import LongTermMemory
from .._errors import first_cause
from .._node.description import node_status
from .._node.running import running_node
from .._node.settings import NodeSettings
from .control_socket import serve_control, socket_path
from .metrics import serve_metrics


class JsonLines(logging.Formatter):
    """Format log records as JSON, one object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON, which escapes what peers sent."""
        fields = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "source": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def log_to_stderr(verbose: bool) -> None:
    """Log the node on stderr; of libp2p only critical messages."""
    stream = logging.StreamHandler()
    stream.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [stream]  # libp2p puts its own there when it is imported
    root.setLevel(logging.CRITICAL)
    logging.getLogger("libp2p").handlers.clear()
    for name in logging.root.manager.loggerDict:
        if name.startswith("libp2p"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("sedma_jax").setLevel(logging.INFO if verbose else logging.WARNING)


def run_daemon(
    settings: NodeSettings,
    folder: Path,
    *,
    metrics_port: int | None,
    memory: LongTermMemory | None = None,
    started: Callable[[dict], None],
) -> None:
    """Run a node until SIGINT or SIGTERM; `started` is called with its status."""

    async def run():
        async with (
            running_node(settings, memory=memory) as node,
            trio.open_nursery() as nursery,
        ):
            serve = lambda task_status: serve_control(node, folder, task_status=task_status)
            await nursery.start(serve)
            stop_metrics = None
            if metrics_port is not None:
                stop_metrics, _ = serve_metrics(node, metrics_port)
            started(await node_status(node))
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    break
            if stop_metrics is not None:
                await trio.to_thread.run_sync(stop_metrics)
            nursery.cancel_scope.cancel()

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket_path(folder)
    try:
        trio.run(run)
    except BaseExceptionGroup as group:
        raise first_cause(group) from None
