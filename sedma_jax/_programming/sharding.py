"""Program and multiply on a mesh of devices, in one process or in several.

Tiles are laid over the mesh axis `tiles` by whole outputs: all tiles of an output lie on
one device, which adds them in the order of `matvec`; other devices add zeros. The noise of
a tile is that of `program` and `matvec` wherever it lies. What the cells hold is that of
`program` bit for bit; sums over cells differ by no more than what the compiler makes of
another number of tiles, which is rounding, or a step of a converter. The batch may be laid
over a second axis, `batch`. Only outputs cross devices.
"""

import dataclasses
from functools import partial
from typing import Unpack

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import device_of
from .._crossbar.abstract_crossbar import check_converters
from .._crossbar.converters import ADC, DAC
from .._crossbar.crossbar import Crossbar, check_crossbar, check_vector, read
from .._keys import check_key
from .._tiling.partition import Matrix, Partition, Vectors, common_width
from .._tiling.tile_source import SlicedMatrix, TileSource, tile_source
from ..kernels import (
    Device,
    acceptance_band,
    check_kind,
)
from .options import Programming, ProgrammingOptions, programming_from
from .program import program_partition
from .program_stats import ProgramStats, total_stats

_AXES = ("tiles", "batch")


def program_sharded(
    A: Matrix | SlicedMatrix,
    device: Device | str,
    mesh: Mesh,
    programming: Programming | None = None,
    *,
    key: PRNGKeyArray,
    **options: Unpack[ProgrammingOptions],
) -> tuple[Crossbar, ProgramStats]:
    """`program`, with the tiles laid over the devices of a mesh.

    Each tile has the noise that `program` gives it. In several processes every one makes
    the same call, and cuts only the tiles of its own devices out of `A`.

    **Arguments:**

    - `mesh`: of the axis `tiles`, or of `tiles` and `batch`, over the devices of all
        processes: `jax.make_mesh((devices,), ("tiles",))`.
    - `A`: as in `stream_matvec`; the same in every process.
    - all others: as in `program`. A scaling of your own has to treat each tile by itself.

    **Returns:**

    A crossbar for `matvec_sharded`, whose arrays are laid over the mesh and filled up
    with tiles of no use, and the figures of `program`, to rounding, on every device.

    **Raises:**

    - `ValueError`: as `program` does, and if the mesh has other axes.

    **Example:**

        >>> mesh = jax.make_mesh((1,), ("tiles",))  # of one device
        >>> A, options = np.eye(8), dict(array=4, key=jr.key(0))
        >>> crossbar, _ = sj.program_sharded(A, "epiram", mesh, **options)
        >>> same, _ = sj.program(A, "epiram", **options)
        >>> bool(jnp.allclose(crossbar.conductance, same.conductance, rtol=1e-5, atol=0))
        True
    """
    check_key(key)
    device = device_of("program_sharded", device)
    remedy = "Make it with `jax.make_mesh`."
    check_kind(
        "sedma_jax.program_sharded", Mesh, "a `jax.sharding.Mesh`", remedy, mesh=mesh
    )
    if mesh.axis_names not in (_AXES, _AXES[:1]):
        raise ValueError(
            "`sedma_jax.program_sharded` needs a mesh of the axes ('tiles',) or "
            f"('tiles', 'batch'). Got {mesh.axis_names}. Make it with `jax.make_mesh`."
        )
    # With explicit axes JAX would ask for a sharding at every index.
    mesh = Mesh(mesh.devices, mesh.axis_names)
    how = programming_from("program_sharded", programming, **options)
    source = tile_source(A, *how.array)
    positions = _deal(source, mesh.shape["tiles"])
    parts = _lay(source, positions, NamedSharding(mesh, P("tiles")))
    rule = acceptance_band(device) if how.rule is None else how.rule
    # Where each stored tile lies, in the order of `Partition`.
    places = np.argsort(np.where(positions < 0, source.inputs.size, positions).ravel())
    crossbar, stats = _program(
        parts,
        _traced(device),
        jax.tree.map(jnp.asarray, rule),
        places[: source.inputs.size],
        np.asarray(jr.key_data(key)),
        key_impl=str(jr.key_impl(key)),
        mesh=mesh,
        how=dataclasses.replace(how, rule=None),
        scaling=source.local_scaling(how.scaling),
    )
    return eqx.tree_at(lambda c: c.device, crossbar, device), stats


def _traced(device):
    """The device as `program` traces it: a constant would be rounded otherwise.

    Compilers replace division by a constant. Only whether cells differ is known.
    """
    traced = jax.tree.map(jnp.asarray, device)
    return eqx.tree_at(lambda d: d.sigma_d2d, traced, device.sigma_d2d)


def matvec_sharded(
    crossbar: Crossbar,
    x: Vectors,
    *,
    dac: DAC | None = None,
    adc: ADC | None = None,
    replicate: bool = True,
    key: PRNGKeyArray,
) -> Float[Array, "*batch m"]:
    """`matvec`, on the devices that hold the tiles.

    **Arguments:**

    - `crossbar`: from `program_sharded`.
    - `x`: as in `matvec`, the same in every process; on a mesh with the axis `batch` a
        number of vectors that its size divides.
    - `dac`, `adc`, `key`: as in `matvec`, with one full scale for all tiles.
    - `replicate`: whether every device gets the whole of `y`, which several processes
        send each other. Otherwise each product stays on the devices of the axis `batch`
        that made it, and nothing is sent along that axis.

    **Returns:**

    `y`: that of `matvec`, to rounding.

    **Raises:**

    - `ValueError`: as `matvec` does; if `crossbar` is not from `program_sharded`, or the
        batch does not divide.

    **Example:**

        >>> mesh = jax.make_mesh((1,), ("tiles",))  # of one device
        >>> A, options = np.eye(8), dict(array=4, key=jr.key(0))
        >>> crossbar, _ = sj.program_sharded(A, "epiram", mesh, **options)
        >>> y = sj.matvec_sharded(crossbar, np.arange(8.0), key=jr.key(1))
        >>> bool(jnp.max(jnp.abs(y - np.arange(8.0))) < 0.1)
        True
    """
    check_key(key)
    check_crossbar("matvec_sharded", crossbar=crossbar)
    check_converters("matvec_sharded", dac, adc)
    sharding = crossbar.strips.sharding
    if not isinstance(sharding, NamedSharding) or "tiles" not in sharding.mesh.axis_names:
        raise ValueError(
            "`sedma_jax.matvec_sharded` needs a crossbar of `program_sharded`. "
            f"Got one on {sharding}. For that call `matvec`."
        )
    mesh = sharding.mesh
    x = check_vector(x, crossbar)
    vectors = np.atleast_2d(np.asarray(x, crossbar.dtype))
    shards = mesh.shape.get("batch", 1)
    if len(vectors) % shards:
        raise ValueError(
            f"`sedma_jax.matvec_sharded` needs a batch that {shards} devices divide. "
            f"Got {len(vectors)} vectors. Add vectors of zeros, or use a smaller mesh."
        )
    spread = NamedSharding(mesh, P("batch" if "batch" in mesh.axis_names else None))
    vectors = jax.make_array_from_callback(vectors.shape, spread, lambda i: vectors[i])
    key_data, key_impl = np.asarray(jr.key_data(key)), str(jr.key_impl(key))
    y = _read(
        crossbar,
        vectors,
        dac,
        adc,
        key_data,
        key_impl=key_impl,
        out=NamedSharding(mesh, P()) if replicate else spread,
    )
    return y if x.ndim == 2 else y[0]


def _deal(source: TileSource, devices: int) -> np.ndarray:
    """Position of each tile of each device, -1 for none: whole outputs, about evenly."""
    before = np.searchsorted(np.sort(source.outputs), source.outputs)
    owner = before * devices // max(len(before), 1)
    own = [np.flatnonzero(owner == d) for d in range(devices)]
    positions = np.full((devices, max(1, *map(len, own))), -1)
    for row, tiles in zip(positions, own, strict=True):
        row[: len(tiles)] = tiles
    return positions


def _lay(source, positions, sharding):
    """The partition over all devices, of which this process cuts what it holds."""
    devices, count = positions.shape
    shape = (devices * count,)
    held = {}

    def local(index):
        device = (index[0].start or 0) // count
        if device not in held:
            row = positions[device]
            held[device] = source.partition(row[row >= 0], count)
        return held[device]

    def lay(field):
        trailing = source.array if field == "tiles" else ()
        return jax.make_array_from_callback(
            shape + trailing, sharding, lambda i: np.asarray(getattr(local(i), field))
        )

    own = [row[row >= 0] for row in positions]
    widths = [common_width(source.inputs[row], source.outputs[row]) for row in own]
    width = int(np.gcd.reduce(widths))
    return Partition(
        tiles=lay("tiles"),
        inputs=lay("inputs"),
        outputs=lay("outputs"),
        shape=source.shape,
        width=width,
    )


def _over_tiles(function, mesh, in_specs, out_specs):
    # The compiler spreads the batch; by its lights the result of a loop may differ from
    # device to device even where it does not, hence no check.
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=in_specs,
        out_specs=out_specs,
        axis_names={"tiles"},
        check_vma=False,
    )


@eqx.filter_jit
def _program(
    parts,
    device,
    rule,
    places,
    key_data,
    *,
    key_impl,
    mesh,
    how,
    scaling,
):
    figures, known = eqx.partition((device, scaling), eqx.is_array)

    def local(parts, figures, rule, key_data):
        device, scaling = eqx.combine(figures, known)
        crossbar, stats = program_partition(
            parts,
            device,
            dataclasses.replace(how, arrays=None, rule=rule),
            scaling=scaling,
            key=jr.wrap_key_data(key_data, impl=key_impl),
        )
        used = parts.outputs < parts.grid[1]
        scale = jnp.where(used[:, None], crossbar.scale, 0)
        return crossbar.strips, crossbar.conductance, scale, stats.per_array

    strips, conductance, scale, stats = _over_tiles(
        local, mesh, (P("tiles"), P(), P(), P()), P("tiles")
    )(parts, figures, rule, key_data)
    everywhere = NamedSharding(mesh, P())
    stats = jax.tree.map(
        lambda v: lax.with_sharding_constraint(v, everywhere)[places], stats
    )
    crossbar = Crossbar(
        strips=strips,
        conductance=conductance,
        scale=scale,
        inputs=parts.inputs,
        outputs=parts.outputs,
        device=device,
        shape=parts.shape,
    )
    return crossbar, total_stats(stats, how.arrays)


@partial(jax.jit, static_argnames=("key_impl", "out"))
def _read(crossbar, x, dac, adc, key_data, *, key_impl, out):
    laid = lambda c: (c.strips, c.conductance, c.scale, c.inputs, c.outputs)

    def local(arrays, device, x, dac, adc, key_data):
        part = eqx.tree_at(laid, crossbar, arrays)
        part = eqx.tree_at(lambda c: c.device, part, device)
        key = jr.wrap_key_data(key_data, impl=key_impl)
        y = read(part, x, dac, adc, key)
        # An output lies on one device: the others add zeros to it. Over one device there
        # is nothing to add, and XLA refuses that sum beside a batch that is spread.
        return lax.psum(y, "tiles") if out.mesh.shape["tiles"] > 1 else y

    y = _over_tiles(local, out.mesh, (P("tiles"), *[P()] * 5), P())(
        laid(crossbar), crossbar.device, x, dac, adc, key_data
    )
    return lax.with_sharding_constraint(y, out)
