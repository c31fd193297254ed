"""Agents that come with the package."""

from collections.abc import Callable

import jax.random as jr
import numpy as np
import safetensors.numpy

from .. import devices
from .._dir import later_names
from .._products.corrected import corrected_matvec

__dir__ = later_names(globals())


def crossbar(request: bytes, call: Callable[[str, bytes], bytes]) -> bytes:
    """Answer a corrected matrix-vector product on EpiRAM.

    **Arguments:**

    - `request`: safetensors with `A` (m, n), `x` (n,) and optionally `seed`, an integer.
    - `call`: asks another agent; not used here.

    **Returns:**

    Safetensors with `y` (m,), of the dtype of `A`.

    **Raises:** `ValueError` for a request without `A` and `x`, and as `corrected_matvec`.

    **Example:**

        >>> import safetensors.numpy
        >>> request = safetensors.numpy.save({"A": np.eye(2)})  # and no x
        >>> sj.deploy.agents.crossbar(request, call=lambda name, request: b"")
        Traceback (most recent call last):
        ValueError: `crossbar` needs tensors A and x. Got ['A']. Send both.
    """
    del call
    tensors = safetensors.numpy.load(request)
    if not {"A", "x"} <= tensors.keys():
        raise ValueError(
            f"`crossbar` needs tensors A and x. Got {sorted(tensors)[:8]}. Send both."
        )
    key = jr.key(int(tensors.get("seed", 0)))
    y, _ = corrected_matvec(tensors["A"], tensors["x"], devices.EPIRAM, key=key)
    return safetensors.numpy.save({"y": np.asarray(y)})
