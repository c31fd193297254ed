"""`python -m serve` serves the agent of the environment until SIGTERM."""

import importlib
import os
import signal
import sys
import threading

from .calls import this_peer
from .servers import serve


def main() -> None:
    """Serve the agent of the environment until SIGTERM."""
    module, _, function = os.environ["SEDMA_ENTRY"].partition(":")
    entry = getattr(importlib.import_module(module), function)
    ports = dict(pair.split("=") for pair in os.environ["SEDMA_PORTS"].split(","))
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        servers = serve(entry, {protocol: int(port) for protocol, port in ports.items()})
        if os.environ.get("SEDMA_AGENT"):
            this_peer()  # a bad secret shows now, not at the first call
    except ValueError as error:
        sys.exit(str(error))
    stopped.wait()
    for stop, _ in servers:
        stop()


if __name__ == "__main__":
    main()
