"""Fetch the tensors of a job that is submitted, and refuse one that is too large."""

from collections.abc import Callable

import numpy as np
import trio

from .._node.node import Node
from .._tensors.fetch import fetch_manifest, fetch_tensor
from .journal import JobRefused, Journal
from .messages import JobRequest
from .operands import INDICES, VALUES, Operand

Needs = Callable[[Operand, np.ndarray], int]
"""The bytes that a worker needs for a matrix and vectors, at most."""


def check_size(
    matrix: Operand, x: np.ndarray, largest: int, memory: int | None, needs: Needs | None
) -> None:
    """Refuse a job whose product, or whose need of memory, is too large."""
    numbers = matrix.shape[0] * (x.size // x.shape[-1])
    product = numbers * max(matrix.dtype.itemsize, x.dtype.itemsize)
    if product > largest:
        raise JobRefused(
            "`JobClient.submit` needs a product of at most "
            f"{largest:,} bytes (`--largest` of the service). Got "
            f"{product:,}, of {matrix.shape[0]:,} rows. Cut the matrix into blocks of "
            "rows."
        )
    if needs is None or memory is None:
        return
    needed = needs(matrix, x)
    if needed > memory:
        raise JobRefused(
            "`JobClient.submit` needs a job that fits in "
            f"{memory // 10**6:,} MB (`--worker-memory` of the service). "
            f"Got one of {matrix.shape} that takes up to {needed // 10**6:,} MB. Cut "
            "the matrix into blocks."
        )


async def bring(
    node: Node, journal: Journal, peer: str, request: JobRequest, largest: int
) -> None:
    """Fetch the tensors of a job onto the disk, from its client alone."""
    total, tensors = 0, journal.tensors
    for cid in dict.fromkeys(request.cids):
        # Who merely names the tensor of somebody else has to send it.
        if journal.brought(peer, cid) and tensors.has(cid):
            continue
        calls, peers = node.calls, node.peers
        manifest = await fetch_manifest(calls, peers, cid, [peer])
        total += manifest.nbytes
        if total > largest:
            raise JobRefused(
                "`JobClient.submit` needs tensors of at most "
                f"{largest:,} bytes together. Got {total:,}. Cut the "
                "matrix into blocks of rows."
            )
        if manifest.dtype not in (*INDICES, *VALUES):
            raise JobRefused(
                "`JobClient.submit` needs tensors of "
                f"{', '.join((*INDICES, *VALUES))}. Got {manifest.dtype}. Convert "
                "with `astype`."
            )
        array, _ = await fetch_tensor(calls, peers, manifest, [peer])
        try:
            await trio.to_thread.run_sync(tensors.save, cid, array)
        except OSError as error:
            raise OSError(
                "`JobClient.submit` needs a service with room on its disk. Got "
                f"{error.strerror or error} there. The job was not accepted: submit "
                "it again, with the same id, when there is room."
            ) from error
