"""Read all named arrays of a file of weights; nothing is unpickled."""

import math
import os
import sys
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from .numpy_files import parse_all_arrays
from .read_files import opened, read_regular, told
from .refusal import LARGEST_BYTES, FileRefusal, check_count, damaged

# What `torch.save`, and Lightning and Hugging Face with it, write: pickles.
_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle")


def load_state(path: str | os.PathLike[str], caller: str) -> dict[str, np.ndarray]:
    """The arrays of a `.safetensors` or `.npz` file by their names.

    **Raises:** `ValueError` in one line that names `caller`, if there are none.
    """
    try:
        return _load_state(os.fspath(path))
    except FileRefusal as refusal:
        raise told(refusal, caller, path) from refusal.__cause__


def _load_state(path: str) -> dict[str, np.ndarray]:
    suffix = Path(path).suffix.lower()
    if suffix in _PICKLES:
        raise FileRefusal(
            "a .safetensors or .npz file",
            f"{suffix!r}, a pickle, which may run any code when it is read",
            "Where torch is installed, write `safetensors.torch.save_file(torch.load(PATH, "
            "weights_only=True), 'weights.safetensors')`.",
        )
    if suffix == ".npz":
        return parse_all_arrays(read_regular(path, LARGEST_BYTES))
    if suffix != ".safetensors":
        raise FileRefusal(
            "a .safetensors or .npz file", f"{suffix!r}", "Save it in one of these formats."
        )
    with opened(path, sys.maxsize):  # it is mapped, not read
        try:
            with safe_open(path, framework="numpy") as tensors:
                names = list(tensors.keys())
                for name in names:
                    check_count(math.prod(tensors.get_slice(name).get_shape()))
                return {name: tensors.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise damaged("safetensors", error, "safetensors.torch.save_file") from error
