"""`sedma node`: run a peer, and put and get tensors through it."""

import argparse
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .._files.whole_files import replacing
from ._terminal import numbers as numbers
from ._terminal.tables import print_table
from .peer_options import add_peer_options, peer_settings, state_folder


def add_parser(commands: Any) -> None:
    """Add `sedma node` to the subcommands."""
    node = commands.add_parser("node", help="run a peer; put and get tensors through it")
    actions = node.add_subparsers(required=True, metavar="ACTION")

    start = _action(actions, "start", _start, "run a node until it is interrupted")
    _add_start_options(start)

    identify = actions.add_parser("id", help="print the id of a key, for --allow")
    identify.set_defaults(command=_id)
    identify.add_argument(
        "file", type=Path, metavar="FILE", help="the key; generated on first use"
    )
    identify.add_argument(
        "--rewrite",
        action="store_true",
        help="add the digest that key files of earlier releases lack; the id stays",
    )

    _action(actions, "peers", _peers, "list the peers that the node knows")
    _action(actions, "status", _status, "show the node itself")
    put = _action(actions, "put", _put, "offer an array, and print its CID")
    put.add_argument("file", type=Path, metavar="FILE.npy")
    get = _action(actions, "get", _get, "fetch an array by its CID")
    get.add_argument("cid", metavar="CID")
    get.add_argument("--out", type=Path, required=True, metavar="FILE.npy")


def _add_start_options(start: argparse.ArgumentParser) -> None:
    add_peer_options(
        start,
        allow="a peer that may connect",
        everyone="let every peer connect",
        join="to connect to",
        replicas="holders per tensor (1)",
    )
    start.add_argument(
        "--relay", action="store_true", help="carry connections between other peers"
    )
    start.add_argument(
        "--via-relay",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="address, with /p2p/ID, of a relay through which to be reached; may be given "
        "again",
    )
    start.add_argument(
        "--namespace", default="sedma", help="name by which peers meet at a relay (sedma)"
    )
    start.add_argument(
        "--dial",
        action="append",
        default=[],
        metavar="NETWORK",
        help="network, as 10.1.0.0/16, in which to dial peers that strangers name; public "
        "addresses and the node's own networks are dialled anyway; may be given again",
    )
    start.add_argument(
        "--capacity",
        type=numbers.whole("MB", 1),
        default=1000,
        metavar="MB",
        help="memory for tensors (1000)",
    )
    start.add_argument(
        "--disk",
        type=numbers.whole("MB", 1),
        default=10_000,
        metavar="MB",
        help="room on the disk for tensors, in the folder of the node (10000)",
    )
    start.add_argument(
        "--volatile",
        action="store_true",
        help="hold tensors in memory only; they are gone when the node ends",
    )
    start.add_argument(
        "--zone", default="", help="name of what fails together with this node"
    )
    start.add_argument(
        "--memory",
        metavar="URL",
        help="where to remember what each peer was like: sqlite:///FILE or "
        "postgresql://... (needs the memory extra)",
    )
    start.add_argument(
        "--metrics",
        type=numbers.whole("port", 0, 2**16 - 1),
        metavar="PORT",
        help="port to serve Prometheus on; 0 for any",
    )
    start.add_argument("--verbose", action="store_true", help="log what peers do")


def _action(
    actions: Any, name: str, command: Callable[..., int], text: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text)
    parser.set_defaults(command=command)
    parser.add_argument(
        "--dir",
        type=Path,
        default=state_folder(),
        help="folder of the node's key and control socket (~/.local/state/sedma)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout"
    )
    return parser


def _start(options: argparse.Namespace) -> int:
    from ..comm import NodeSettings
    from ..comm._runners.daemon import log_to_stderr, run_daemon

    settings = NodeSettings(
        **peer_settings(options),
        capacity=options.capacity * 10**6,
        folder=None if options.volatile else options.dir / "tensors",
        disk=options.disk * 10**6,
        zone=options.zone,
        relay=options.relay,
        via_relay=tuple(options.via_relay),
        namespace=options.namespace,
        dial=tuple(options.dial),
    )
    log_to_stderr(options.verbose)

    def started(status: dict):
        if options.json:
            print(json.dumps(status), flush=True)
        else:
            print(f"node {status['id']} listens on", flush=True)
            for address in status["addresses"]:
                print(f"  {address}", flush=True)

    with ExitStack() as stack:
        memory = None
        if options.memory is not None:
            from .. import memory as long_term  # an extra

            memory = stack.enter_context(long_term.open(options.memory))
        run_daemon(
            settings,
            options.dir,
            metrics_port=options.metrics,
            memory=memory,
            started=started,
        )
    return 0


def _id(options: argparse.Namespace) -> int:
    from ..comm import key_id
    from ..comm._libp2p.keystore import add_digest

    if options.rewrite:
        add_digest(options.file)
    print(key_id(options.file))
    return 0


def _show(record: dict | list[dict], options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps(record))
        return 0
    rows = record if isinstance(record, list) else [record]
    headings = list(rows[0]) if rows else ["no peers"]
    print_table(headings, [[_cell(value) for value in row.values()] for row in rows])
    return 0


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "\n".join(map(_cell, value)) if isinstance(value, list) else str(value)


def _peers(options: argparse.Namespace) -> int:
    from ..comm._runners import control_client

    peers = control_client.ask(options.dir, "peers")
    return _show({"peers": peers} if options.json else peers, options)


def _status(options: argparse.Namespace) -> int:
    from ..comm._runners import control_client

    return _show(control_client.ask(options.dir, "status"), options)


def _put(options: argparse.Namespace) -> int:
    from .._files.numpy_files import load_npy
    from .._progress import progress_bar
    from ..comm._runners import control_client
    from ..comm._tensors.manifest import LARGEST_TENSOR

    array = load_npy(options.file, "`sedma node put`", LARGEST_TENSOR)
    with progress_bar("put", "MB", total=lambda: array.nbytes // 10**6) as progress:
        cid = control_client.put(options.dir, array, progress)
    print(json.dumps({"cid": cid, "bytes": array.nbytes}) if options.json else cid)
    return 0


def _get(options: argparse.Namespace) -> int:
    import numpy as np

    from .._progress import progress_bar
    from ..comm import check_cid
    from ..comm._runners import control_client

    check_cid(options.cid)
    with progress_bar("get", "MB") as progress:
        array = control_client.get(options.dir, options.cid, progress)
    with replacing(options.out) as part, part.open("wb") as file:
        np.save(file, array)
    record = {"out": str(options.out), "dtype": array.dtype.name, "shape": array.shape}
    if options.json:
        print(json.dumps(record))
    else:
        print(f"{record['out']}: {record['dtype']} {record['shape']}")
    return 0
