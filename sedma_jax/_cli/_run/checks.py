"""Which options of `sedma run` go together."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..._files.whole_files import check_folder, check_target
from ..._run import check_node_key, read_workflow
from .resume import fill_in

if TYPE_CHECKING:  # an extra
    from ...deploy import Workflow


def check_end_to_end(options: argparse.Namespace) -> "Workflow | None":
    """The workflow of `--end-to-end`, read before any work; None for the default."""
    options.end_to_end |= any((options.peers, options.workflow, options.node_key))
    options.end_to_end |= options.apply or options.resume is not None
    if (options.kubeconfig or options.context) and not options.apply:
        raise ValueError(
            "`--kubeconfig` and `--context` need --apply. Got no --apply. Add it, or leave "
            "them out: nothing else uses a cluster."
        )
    if not options.end_to_end:
        return None
    if options.resume is not None:
        if options.out not in (None, options.resume):
            raise ValueError(
                f"`--resume` writes to its own folder. Got --out {options.out} and "
                f"--resume {options.resume}. Leave --out out."
            )
        options.out = options.resume
        fill_in(options)
    if (
        options.out is None
        or len(set(options.device or [0])) > 1
        or options.device == ["all"]
    ):
        raise ValueError(
            "`--end-to-end` needs --out DIR and one device. Got "
            f"--out {options.out}, --device {options.device}. Name both."
        )
    if options.memory is None:
        from ... import memory  # an extra

        options.memory = memory.default_url()
    check_node_key(options.node_key)
    return read_workflow(options.workflow)


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse before any work what could not be written after it."""
    for option in ("checkpoint", "trace", "plot"):
        name = getattr(options, option)
        if name is not None:
            check_target(Path(name), f"`--{option}`")
    if options.out is not None:
        check_folder(Path(options.out), "`--out`")
    if options.plot is not None:
        from ... import viz  # an extra: says what to install  # noqa: F401


def check_streaming(options: argparse.Namespace, names: list[str]) -> None:
    """Refuse options that a streamed run does not support."""
    for option in ("pool", "slices"):
        if options.stream and getattr(options, option) is not None:
            raise ValueError(
                f"A streamed run needs one array per partition. Got --{option} as well. "
                "Leave one of the two out."
            )
    if options.checkpoint is not None and len(names) > 1:
        raise ValueError(
            f"`--checkpoint` needs a single device. Got {len(names)} devices. Call `sedma "
            "run` once per device, each time with another file."
        )


def check_memory(options: argparse.Namespace) -> bool:
    """Whether memory chooses; options that it would overrule are refused."""
    if options.memory is None:
        return False
    for option, name in (
        ("lam", "lambda"),
        ("array", "array"),
        ("arrays", "arrays"),
        ("slices", "slices"),
        ("stream", "stream"),
        ("checkpoint", "checkpoint"),
    ):
        if getattr(options, option) not in (None, False):
            raise ValueError(
                f"`--memory` chooses the tiling and lambda itself. Got --{name} as well. "
                "Leave one of the two out."
            )
    return True
