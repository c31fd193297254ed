"""Keep the state of a long job in a file, so that another process can take it up."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._files.numpy_files import parse_arrays
from .._files.read_files import read_regular
from .._files.refusal import FileRefusal
from .._files.whole_files import replacing

_LARGEST = 2**33  # bytes


def save_checkpoint(
    path: str | os.PathLike[str],
    job: Mapping[str, str],
    state: Mapping[str, np.ndarray],
) -> None:
    """Write a checkpoint that replaces the last one in one step.

    A process that is killed at any moment leaves the old file or the new one, whole.
    """
    # Any, or pyright takes an array for the option of `savez`
    fields: dict[str, Any] = {f"job_{name}": text for name, text in job.items()}
    fields.update(state)
    with replacing(Path(path)) as part, part.open("wb") as file:
        np.savez(file, **fields)


def load_checkpoint(
    path: str | os.PathLike[str],
    job: Mapping[str, str],
    like: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray] | None:
    """Read the state of this very job; None where there is no file yet.

    **Raises:**

    - `ValueError`: if the file is damaged, or is of another job: the message says in
        which part of its description.
    """
    try:
        wanted = [*(f"job_{name}" for name in job), *like]
        file = parse_arrays(read_regular(path, _LARGEST), wanted)
        theirs = {name: str(file[f"job_{name}"]) for name in job}
        state = {name: file[name].copy() for name in like}  # what is read cannot be written
    except (FileRefusal, KeyError) as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        told = f"it lacks {error}" if isinstance(error, KeyError) else error.args[1]
        raise ValueError(
            f"`checkpoint` needs to be a file that a streamed job wrote. Got {path}, "
            f"which cannot be read as one ({told}). Delete it, or name another file."
        ) from error
    other = [name for name in job if job[name] != theirs[name]]
    if other:
        raise ValueError(
            f"`checkpoint` needs to be of this very job. Got {path}, written for "
            f"another {', '.join(other)}. Delete it, or name another file."
        )
    for name, array in like.items():
        if (state[name].shape, state[name].dtype) != (array.shape, array.dtype):
            raise ValueError(
                f"`checkpoint` needs {name} of shape {array.shape}, {array.dtype}. Got "
                f"{state[name].shape}, {state[name].dtype} in {path}. Delete it."
            )
    return state
