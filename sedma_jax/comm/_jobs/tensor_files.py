"""The tensors of jobs on disk, each in a file that its CID names."""

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ..._files.numpy_files import parse_npy
from ..._files.refusal import FileRefusal
from ..._files.whole_files import replacing
from .._tensors.manifest import describe, tensor_of


class TensorFiles:
    """Tensors in a folder; hidden files there are still being written."""

    def __init__(self, folder: Path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder

    def has(self, cid: str) -> bool:
        """Whether a tensor is on disk."""
        return self._path(cid).exists()

    def save(self, cid: str, array: np.ndarray) -> None:
        """Write a tensor to the disk."""
        with replacing(self._path(cid)) as part:
            write_durably(part, array)
        self._make_names_durable()

    def take(self, cid: str, part: Path) -> None:
        """Give a file that `write_durably` wrote in this folder the name of its tensor."""
        part.replace(self._path(cid))
        self._make_names_durable()

    def load(self, cid: str) -> np.ndarray:
        """Read a tensor from the disk, and verify it.

        **Raises:** `ValueError` if its content has changed, `OSError` if it is missing.
        """
        try:
            array = tensor_of(parse_npy(self._path(cid).read_bytes()))
        except (FileRefusal, ValueError):
            array = None
        if array is None or describe(array).cid != cid:
            raise ValueError(
                f"`sedma serve` needs {self._path(cid)} as it was written. Got another "
                "content. Check the disk, and submit the job again under another id."
            )
        return array

    def keep_only(self, needed: Collection[str]) -> None:
        """Delete all other tensors, but not what is still being written."""
        for path in self.folder.iterdir():
            if not path.name.startswith(".") and path.stem not in needed:
                path.unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Delete what a process that was killed left half-written."""
        for part in self.folder.glob(".*"):
            part.unlink()

    def _make_names_durable(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _path(self, cid: str) -> Path:
        return self.folder / f"{cid}.npy"


def write_durably(path: Path, array: np.ndarray) -> None:
    """Write an array into a file, and onto the disk."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
