"""The work of `sedma run`: program, multiply, correct, deliver, and record it all."""

import argparse
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from scipy.sparse import csr_array

from ..._files.whole_files import replacing
from ..._products.corrected import corrected_matvec
from ..._products.correction import CorrectionInfo
from ..._products.streaming import stream_corrected_matvec
from ..._programming.pooled import program_pool
from ..._programming.residual import program_residual
from ..._progress import progress_bar
from ..._run import deliver
from ..._tiling.planning import plan_partitions
from ..._tiling.pool import Pool
from ..._tiling.tile_source import tile_source
from ..._trace import Trace
from ...kernels import Device
from ..cluster import target_of
from .records import adaptive_record, memory_efficiency, pool_layout, product_record

if TYPE_CHECKING:  # an extra
    from ...deploy import Workflow

Matrix = np.ndarray | csr_array


def run_with_memory(
    name: str,
    matrix: Matrix,
    x: Array,
    pool: Pool | None,
    options: argparse.Namespace,
    trace: Trace,
) -> tuple[dict[str, Any], np.ndarray]:
    """`run_device`, steered by what is remembered of matrices like this one."""
    from ... import memory as long_term  # an extra

    with ExitStack() as stack:
        with trace.stage("open"):
            memory = stack.enter_context(long_term.open(options.memory))
        y, info, _ = long_term.adaptive_matvec(
            matrix,
            x,
            options.devices[name] if pool is None else pool,
            memory=memory,
            trace=trace,
            key=jax.random.key(options.seed),
        )
    return adaptive_record(name, matrix, options.seed, info), np.asarray(y)


def run_delivery(
    y: np.ndarray,
    workflow: "Workflow | None",
    options: argparse.Namespace,
    stages: Collection[str],
    trace: Trace,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Perform stages after a product; return their record, and what failed by stage."""
    from ... import memory as long_term  # an extra

    place_key = jax.random.fold_in(jax.random.key(options.seed), 1)
    with long_term.open(options.memory) as memory:
        delivery = deliver(
            y,
            peers=options.peers or (),
            node_key=options.node_key,
            workflow=workflow,
            cluster=target_of(options) if options.apply else None,
            memory=memory,
            stages=stages,
            trace=trace,
            key=place_key,
        )
    folder = Path(options.out) / "deploy"
    for name, text in delivery.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder / name) as part:
            part.write_text(text)
    record: dict[str, Any] = {"failed": delivery.failed, "seconds": delivery.seconds}
    if published := delivery.publication:
        record |= {
            "cid": published.cid,
            "peers": published.peers,
            "peers_embedded": published.embedded,
            "publish_latency_ms": 1000 * published.seconds,
        }
    if delivery.files:
        manifests = [name for name in delivery.files if name.startswith("manifests/")]
        record |= {
            "placement": delivery.placement,
            "placement_choice": delivery.choice,
            "manifests": [str(folder / name) for name in manifests],
        }
    if delivery.applied:
        record["applied"] = asdict(delivery.applied)
    return record, delivery.failed


def run_device(
    name: str,
    matrix: Matrix,
    x: Array,
    pool: Pool | None,
    options: argparse.Namespace,
    trace: Trace,
) -> tuple[dict[str, Any], np.ndarray]:
    """Program, multiply and correct on a device or pool; return record and product."""
    program_key, run_key = jax.random.split(jax.random.key(options.seed))
    if options.stream:
        with trace.stage("stream"):
            y, info, layout = _stream(name, matrix, x, options, run_key)
            y = np.asarray(y)
    else:
        with trace.stage("program") as outcome:
            programmed, layout, device, array = _program(
                name, matrix, pool, options, program_key
            )
            outcome["partitions"] = layout["partitions"]
        with trace.stage("correct"):
            y, info = corrected_matvec(
                matrix,
                x,
                device,
                lam=options.lam,
                array=array,
                programmed=programmed,
                key=run_key,
            )
            y = np.asarray(y)
    return product_record(name, matrix, options.seed, options.lam, layout, info), y


def _program(
    name: str,
    matrix: Matrix,
    pool: Pool | None,
    options: argparse.Namespace,
    key: PRNGKeyArray,
) -> tuple[Any, dict[str, Any], Device, tuple[int, int]]:
    """The programmed matrix, its layout, and the device and array for the input."""
    if pool is None:
        device, array = options.devices[name], options.array
        count = lambda: len(tile_source(matrix, *array).inputs)
        with progress_bar(
            f"programming {name}", total=count, rounds=options.slices
        ) as progress:
            programmed = program_residual(
                matrix,
                device,
                slices=options.slices,
                array=array,
                arrays=options.arrays,
                progress=progress,
                key=key,
            )
        crossbar, stats = jax.block_until_ready(programmed)
        layout = {
            "array": list(array),
            "partitions": len(crossbar.scale) // crossbar.slices,
            "passes": stats.passes,
            "memory_efficiency": memory_efficiency(crossbar, array),
        }
        if options.slices > 1:
            layout["slices"] = options.slices
        return programmed, layout, device, array
    occupied = matrix.nonzero() if isinstance(matrix, csr_array) else None
    plan = plan_partitions(matrix.shape, pool, occupied=occupied)
    count = lambda: len(plan.rectangles)
    with progress_bar(f"programming {name}", total=count) as progress:
        programmed = program_pool(matrix, plan, progress=progress, key=key)
    jax.block_until_ready(programmed[1])
    first: Any = pool.kinds[0]  # holds the input
    return programmed, pool_layout(plan), first.device, (first.rows, first.cols)


def _stream(
    name: str, matrix: Matrix, x: Array, options: argparse.Namespace, key: PRNGKeyArray
) -> tuple[Array, CorrectionInfo, dict[str, Any]]:
    """Multiply a few partitions at a time; return the product, its figures, its layout."""
    source = tile_source(matrix, *options.array)
    count = lambda: len(source.inputs)
    with progress_bar(f"streaming {name}", total=count) as progress:
        y, info = stream_corrected_matvec(
            matrix,
            x,
            options.devices[name],
            lam=options.lam,
            array=options.array,
            arrays=options.arrays,
            checkpoint=options.checkpoint,
            progress=progress,
            key=key,
        )
    layout = {
        "array": list(options.array),
        "partitions": len(info.stats.per_array.pulses),
        "passes": info.stats.passes,
        "memory_efficiency": memory_efficiency(source, options.array),
    }
    return y, info, layout
