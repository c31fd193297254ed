"""A lookup table on crossbar arrays."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._crossbar.crossbar import Crossbar
from ..kernels import Device
from ..noise_models import MeasuredArray
from ._keys import ReadKey, call_key
from ._layers import emptied, filled
from ._matrix import AnalogMatrix, check_single, held_matrix, multiply
from ._program_matrix import held_or_programmed


class AnalogEmbedding(eqx.Module):
    """`equinox.nn.Embedding` on crossbar arrays: an entry is read by driving its word line.

    - `matrix`: features by entries, with a word line for each entry.
    - `read_key`, `layer`, `dtype`: as in `AnalogLinear`.

    **Example:**

        >>> import equinox as eqx
        >>> table = eqx.nn.Embedding(6, 4, key=jr.key(0))
        >>> analog = sj.nn.AnalogEmbedding(table, "epiram", array=4, key=jr.key(1))
        >>> bool(jnp.max(jnp.abs(analog(5, key=jr.key(2)) - table(5))) < 0.1)
        True
    """

    matrix: AnalogMatrix
    read_key: ReadKey | None
    layer: eqx.nn.Embedding = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(
        self,
        layer: eqx.nn.Embedding,
        device: Device | MeasuredArray | AnalogMatrix | str,
        *,
        key: PRNGKeyArray,
        **options,
    ):
        """Program a layer; `options` and errors are those of `program_matrix`.

        An `AnalogMatrix` in place of a device is one that is programmed already.
        """
        self.matrix = held_or_programmed(layer.weight.T, device, key=key, **options)
        self.read_key, self.layer = None, emptied(layer)
        self.dtype = np.dtype(layer.weight.dtype)

    def __call__(
        self, x: Array | np.ndarray | int, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " embedding"]:
        """Read entry number `x`; negative numbers count from the end.

        **Raises:**

        - `ValueError`: if `x` is not one whole number, or a key is missing.
        """
        x = jnp.asarray(x)
        if x.shape or not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(
                "`sedma_jax.nn.AnalogEmbedding` needs one whole number. Got shape "
                f"{x.shape}, dtype {x.dtype}. Use `jax.vmap` for several entries."
            )
        key = call_key(self.matrix, x, key, self.read_key)
        return read_entry(self.matrix, x, key=key).astype(self.dtype)

    def held(self) -> Array:
        """The weights that the arrays hold, a row for each entry."""
        return held_matrix(self.matrix).T

    def digital(self) -> eqx.nn.Embedding:
        """The digital layer with those weights, in the dtype that it had."""
        return filled(self.layer, self.held().astype(self.dtype), None)


def read_entry(
    matrix: AnalogMatrix, entry: Int[Array, ""], *, key: PRNGKeyArray
) -> Float[Array, " embedding"]:
    """One column of a matrix, by a read of a single word line where that is possible."""
    check_single(matrix)
    entries, dtype = matrix.shape[1], matrix.error.dtype
    entry = jnp.where(entry < 0, entry + entries, entry)
    line = _one_line(matrix, entry)
    if line is None:
        hot = (jnp.arange(entries, dtype=entry.dtype) == entry).astype(dtype)
        return multiply(matrix, hot[None], key=key)[0]
    return multiply(line, jnp.ones((1, 1), dtype), key=key)[0]


def _one_line(matrix: AnalogMatrix, line: Int[Array, ""]) -> AnalogMatrix | None:
    """The matrix of one word line: the others carry no voltage, so no current or noise.

    None if the layout of the arrays needs the whole product.
    """
    held, adc = matrix.crossbar, matrix.adc
    real = any(c is not None and c.errors is not None for c in (matrix.dac, adc))
    full_scale = None if adc is None else adc.full_scale
    by_tile = full_scale is not None and np.ndim(full_scale) > 0
    if not isinstance(held, Crossbar) or held.slices != 1 or by_tile or real:
        return None
    rows, cols = held.array
    outputs = -(-held.shape[0] // cols)
    if held.strips.shape[1] != outputs * cols:
        return None
    block, row = line // rows, line % rows

    def column(strips: Float[Array, "..."], *places: Int[Array, ""]) -> Array:
        return jnp.stack([strips[block, :, place] for place in places], axis=-1)[None]

    optional = lambda strips, *at: None if strips is None else column(strips, *at)
    tile = jnp.arange(outputs, dtype=block.dtype)
    places = block * outputs + tile
    crossbar = Crossbar(
        strips=column(held.strips, row),
        conductance=held.conductance[places, :, row][:, :, None],
        scale=held.scale[places],
        inputs=jnp.zeros_like(held.inputs, shape=outputs),
        outputs=tile.astype(held.outputs.dtype),
        device=held.device,
        shape=(held.shape[0], 1),
        read_variance=optional(held.read_variance, row),
        higher_order=optional(held.higher_order, row, row + rows),
    )
    exact = None if matrix.exact is None else matrix.exact[:, line][:, None]
    return dataclasses.replace(matrix, crossbar=crossbar, exact=exact)
