"""Resume an end-to-end run from the files in its folder."""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from scipy.sparse import csr_array

from ..._files.numpy_files import parse_npy
from ..._files.read_files import read_regular, told
from ..._files.refusal import LARGEST_BYTES, FileRefusal
from ..._tiling.pool import Pool
from ..._tiling.tile_source import tile_source
from .._terminal.device_names import PULSED

# The fields of `delivery_of` whose change makes `stages_of` repeat a stage.
_PEERS, _WORKFLOW = "peers_asked", "workflow"

_LARGEST_RESULT = 2**28  # bytes
_LARGEST_WORKFLOW = 2**28

# The fields of each stage until it succeeds.
PENDING: dict[str, dict[str, Any]] = {
    "publish": {
        "cid": None,
        "peers": [],
        "peers_embedded": False,
        "publish_latency_ms": None,
    },
    "deploy": {"placement": None, "placement_choice": None, "manifests": []},
    "apply": {"applied": None},
}


def inputs_of(
    name: str,
    matrix: np.ndarray | csr_array,
    x: np.ndarray,
    pool: Pool | None,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """What a product depends on, in the form that `result.json` keeps."""
    rows, cols = 256, 256  # any would do, as long as it stays: it orders the digest
    arrays = name
    if pool is not None or name not in PULSED:  # the name of a file says nothing of it
        held = options.devices[name] if pool is None else pool
        arrays = _digest(eqx.tree_pformat(held, short_arrays=False))
    return {
        "matrix": tile_source(matrix, rows, cols).digest(),
        "vector": _digest(np.asarray(x).tobytes()),
        "device": arrays,
        "seed": options.seed,
        "float64": bool(options.float64),
    }


def fill_in(options: argparse.Namespace) -> None:
    """Take peers and workflow, unless they are named, from the run that is resumed."""
    result, _ = _read(Path(options.resume))
    before = result.get("delivery") or {}
    options.peers = options.peers or before.get(_PEERS) or None
    options.workflow = options.workflow or before.get("workflow_file")


def delivery_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the stages after the product depend on besides the product."""
    file = options.workflow
    return {
        _PEERS: list(options.peers or []),
        _WORKFLOW: file and _digest(_content(Path(file), _LARGEST_WORKFLOW)),
        "workflow_file": file and str(Path(file).absolute()),
    }


def load_run(folder: Path, inputs: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """The record and the product of a run that had these inputs.

    **Raises:** `ValueError` if there is no such run, if its inputs differ, or if the
    product is not the one that it wrote.
    """
    result, y = _read(folder)
    kept = result["inputs"]
    other = [name for name in inputs if kept.get(name) != inputs[name]]
    if other:
        told = ", ".join(
            f"{name}: {_short(kept.get(name))} there, {_short(inputs[name])} here"
            for name in other
        )
        raise ValueError(
            f"`--resume` needs the inputs of the run in {folder}. Got other ones: {told}. "
            "Name the same matrix, --vector, --device or --pool, --seed and --float64, or "
            "start anew with --out."
        )
    if kept.get("y") != digest_of(y):
        raise ValueError(
            f"`--resume` needs the product that the run in {folder} wrote. Got another one "
            "in y.npy. Start anew with --out."
        )
    return result, y


def digest_of(y: np.ndarray) -> str:
    """A digest that identifies a product."""
    return _digest(f"{y.dtype} {y.shape} ".encode() + np.ascontiguousarray(y).tobytes())


def stages_of(result: dict[str, Any], delivery: dict[str, Any], apply: bool) -> list[str]:
    """Those stages of `STAGES` that are still to be performed.

    A stage that succeeded is repeated only for other peers or another workflow.
    """
    before = result.get("delivery") or {}
    to_do = []
    if result.get("cid") is None or delivery[_PEERS] != before.get(_PEERS):
        to_do.append("publish")
    files = result.get("manifests") or []
    same = delivery[_WORKFLOW] == before.get(_WORKFLOW)
    if not (same and files and all(Path(file).is_file() for file in files)):
        to_do.append("deploy")
    if apply and ("deploy" in to_do or result.get("applied") is None):
        to_do.append("apply")
    return to_do


def _read(folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The record and the product in the folder of a run."""
    try:
        result = json.loads(_content(folder / "result.json", _LARGEST_RESULT))
        y = parse_npy(_content(folder / "y.npy", LARGEST_BYTES))
    except FileRefusal as refused:
        raise ValueError(
            "`--resume` needs result.json and y.npy as a run wrote them. Got other content "
            f"in {folder}: {refused.args[1]} instead of {refused.args[0]}. Start anew with "
            "--out."
        ) from refused.__cause__
    except (ValueError, RecursionError) as error:
        raise ValueError(
            "`--resume` needs result.json and y.npy as a run wrote them. Got other content "
            f"in {folder}: {error}. Start anew with --out."
        ) from error
    whole = isinstance(result, dict) and isinstance(result.get("trace"), list)
    if not whole or not isinstance(result.get("inputs"), dict):
        raise ValueError(
            "`--resume` needs the folder of a run with --end-to-end. Got a result.json in "
            f"{folder} without the inputs of the run. Start anew with --out."
        )
    return result, y


def _content(path: Path, limit: int) -> bytes:
    try:
        return read_regular(path, limit)
    except FileRefusal as refused:
        if isinstance(refused.__cause__, FileNotFoundError):
            raise ValueError(
                "`--resume` needs the folder of a run with --end-to-end. Got one without "
                f"{path}. Start with --out."
            ) from refused.__cause__
        raise told(refused, "`--resume`", path) from refused.__cause__


def _digest(value: bytes | str) -> str:
    value = value.encode() if isinstance(value, str) else value
    return hashlib.blake2b(value, digest_size=32).hexdigest()


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)[:40]
