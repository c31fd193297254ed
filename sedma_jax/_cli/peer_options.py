"""Options that `sedma node start` and `sedma serve` share, and where they keep state."""

import argparse
import os
from pathlib import Path
from typing import Any

from ._terminal import numbers as numbers


def state_folder() -> Path:
    """The folder of the user's keys, sockets and journals."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "sedma"


def add_peer_options(
    parser: argparse.ArgumentParser, *, allow: str, everyone: str, join: str, replicas: str
) -> None:
    """Add where a peer listens, and whom it lets in and connects to; texts are helps."""
    repeated = {"action": "append", "default": []}
    parser.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS",
        help="address to listen on (/ip4/127.0.0.1/tcp/0); may be given again",
    )
    parser.add_argument(
        "--announce", metavar="ADDRESS", help="address to tell others", **repeated
    )
    parser.add_argument(
        "--allow", metavar="ID", help=f"{allow}; may be given again", **repeated
    )
    parser.add_argument("--open", action="store_true", help=everyone)
    parser.add_argument(
        "--join",
        metavar="ADDRESS",
        help=f"address, with /p2p/ID, of a peer {join}",
        **repeated,
    )
    parser.add_argument(
        "--replicas",
        type=numbers.whole("replicas", 1),
        default=1,
        metavar="K",
        help=replicas,
    )


def peer_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of `NodeSettings` that the shared options give."""
    from ..comm import EVERYONE  # an extra

    return {
        "listen": tuple(options.listen or ["/ip4/127.0.0.1/tcp/0"]),
        "announce": tuple(options.announce),
        "key": options.dir / "key",
        "allowed": frozenset([*options.allow, *([EVERYONE] if options.open else [])]),
        "bootstrap": tuple(options.join),
        "replicas": options.replicas,
    }
