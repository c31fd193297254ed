"""Program without error: the start of statistical programming, and a yardstick."""

from functools import partial

import jax
import jax.numpy as jnp

from .._arguments import device_of
from .._crossbar.crossbar import (
    Crossbar,
)
from .._crossbar.effects import masked_weights, used_cells
from .._functions import on_device
from .._mappings import forgettable
from .._tiling.partition import Matrix, Partition, partition
from ..kernels import (
    Device,
    cell_conductance,
    column_scale,
    differential,
    hidden_state,
    strips_from_tiles,
)
from .chunks import tile_scales
from .options import Mapping, Scaling, programming_from


def program_exactly(
    A: Matrix,
    device: Device | str,
    *,
    array: tuple[int, int] | int = (256, 256),
    mapping: Mapping | str = differential,
    scaling: Scaling | str = column_scale,
) -> Crossbar:
    """Put a matrix on crossbar arrays with every cell at its target.

    No pulses, no noise: each effect can then be switched on alone. With `perturb` this is
    programming by published statistics,

        model = sedma_jax.noise_models.WAN_2022
        crossbar = perturb(program_exactly(A, model.device), model.programming, key=key)

    **Arguments:**

    - `A`, `device`, `array`, `mapping`, `scaling`: as in `program`. Gradients in `A` are
        those of the mapping.

    **Raises:**

    - `ValueError`: as `program` does.

    **Example:**

        >>> A = np.array([[1.0, 2.0], [3.0, -4.0]])
        >>> crossbar = sj.program_exactly(A, "epiram", array=4)
        >>> print(np.asarray(sj.stored_matrix(crossbar)).round(3))
        [[ 1.  2.]
         [ 3. -4.]]
    """
    device = device_of("program_exactly", device)
    how = programming_from(
        "program_exactly", None, array=array, mapping=mapping, scaling=scaling
    )
    return exact_partition(
        partition(A, *how.array), device, mapping=how.mapping, scaling=how.scaling
    )


def exact_partition(
    parts: Partition, device: Device, *, mapping: Mapping, scaling: Scaling
) -> Crossbar:
    """`program_exactly`, for a matrix that is checked and cut already."""
    tiles = parts.tiles
    scale = tile_scales(tiles, scaling)
    used = used_cells(parts, tiles.shape)
    targets = _targets(tiles, scale, used, device, mapping)
    weights = masked_weights(targets, used, device)
    strips = strips_from_tiles(weights, parts.width)
    return Crossbar(
        strips=strips,
        conductance=targets,
        scale=scale,
        inputs=on_device(parts.inputs),
        outputs=on_device(parts.outputs),
        device=device,
        shape=parts.shape,
    )


@forgettable
@partial(jax.jit, static_argnames=("mapping",))
def _targets(tiles, scale, used, device, mapping):
    states = jax.vmap(mapping)(tiles / scale[:, None, :])
    hidden = jnp.where(used[:, None], hidden_state(states, device), 0)
    return cell_conductance(hidden, device).astype(tiles.dtype)
