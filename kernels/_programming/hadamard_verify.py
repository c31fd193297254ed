"""Read the cells of a bit line through orthogonal patterns, and program with such reads.

With one word line driven at a time, `N` cells take `N` reads, each with the full noise of
the sense circuit. With all cells driven at once by the `N` rows of a Hadamard matrix `H` of
+-1, the number of reads is the same, and `H^T / N` recovers the cells with `1 / N` of the
variance (Choi et al. 2026, arXiv 2604.12420, HD-PV).
"""

import jax.lax as lax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .._cells.device import Device, Scalar
from .._cells.pulse import Response
from .closed_loop import (
    Sensed,
    VerifyRule,
    WriteStats,
    closed_loop,
    gaussian,
    read_energy,
    visible_state,
)
from .scheme import Scheme


def hadamard_matrix(size: int, dtype: DTypeLike) -> Float[Array, "{size} {size}"]:
    """Make Sylvester's matrix of +-1 with orthogonal rows, `(-1)**popcount(i & j)`.

    Its leading block of any smaller power of two is the matrix of that size.

    **Raises:**

    - `ValueError`: if `size` is not a power of two.
    """
    if size < 1 or size & (size - 1):
        raise ValueError(
            f"`hadamard_matrix` needs a power of two. Got {size=}. "
            "Pad the rows with word lines that are not driven."
        )
    place = jnp.arange(size)
    odd = lax.population_count(place[:, None] & place[None, :]) & 1
    return (1 - 2 * odd).astype(dtype)


def pattern_count(used: Bool[Array, "rows cols"]) -> Int[Array, ""]:
    """Number of patterns that separate the rows up to the last used: a power of two."""
    rows = jnp.arange(1, used.shape[0] + 1, dtype=jnp.int32)
    last = jnp.max(jnp.where(jnp.any(used, axis=1), rows, 1))
    return jnp.int32(1) << (32 - lax.clz(last - 1))


def hadamard_read(
    seen: Float[Array, "polarity rows cols"],
    used: Bool[Array, "rows cols"],
    sigma: Scalar,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "polarity rows cols"]:
    """Read all cells of an array through Hadamard patterns, and decode.

    Word lines beyond the last used one are not driven.

    **Arguments:**

    - `seen`: visible states.
    - `used`: the weights that hold a matrix entry.
    - `sigma`: noise of one read of one bit line, standard deviation in units of the
        range of one cell. It is the noise of the sense circuit, which does not depend on
        the number of cells driven; noise of the cells themselves would add up over the
        pattern, and decoding would gain nothing.
    - `key`: key of the read noise.

    **Returns:**

    Decoded visible states, each with normal noise of variance `sigma**2 / N`, where `N` is
    the number of used rows rounded up to a power of two; zero on rows that are not driven.
    """
    rows = seen.shape[1]
    size = 1 << (rows - 1).bit_length()
    count = pattern_count(used)
    driven = jnp.arange(size, dtype=jnp.int32) < count
    patterns = jnp.where(
        driven[:, None] & driven[None, :], hadamard_matrix(size, seen.dtype), 0
    )[:, :rows]
    highest = lax.Precision.HIGHEST
    currents = jnp.einsum("kr,prc->pkc", patterns, seen, precision=highest)
    readings = currents + gaussian(sigma, currents.shape, seen.dtype, key=key)
    decoded = jnp.einsum("kr,pkc->prc", patterns, readings, precision=highest)
    return decoded / count.astype(seen.dtype)


def _hadamard_verify(
    target: Float[Array, "polarity rows cols"],
    initial: Float[Array, "polarity rows cols"],
    used: Bool[Array, "rows cols"],
    device: Device,
    response: Response,
    rule: VerifyRule,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "polarity rows cols"], WriteStats]:
    dtype = target.dtype
    reads = jnp.where(jnp.any(used), pattern_count(used), 0).astype(dtype)

    def sense(state, written, key):
        # A pattern mixes all rows, so that rows not written are read too.
        del written
        seen = visible_state(state, device)
        seen = hadamard_read(seen, used, device.sigma_read, key=key)
        error = jnp.where(used[None], target - seen, 0)
        return Sensed(
            error,
            jnp.sqrt(jnp.sum(error**2)),
            reads * read_energy(state, used, device),
            reads * device.t_read,
        )

    return closed_loop(sense, initial, used, device, response, rule, key=key)


hadamard_verify = Scheme(_hadamard_verify)
"""`write_and_verify` with `hadamard_read` in place of a read of each cell.

`N` is the number of rows, rounded up to a power of two. Every round reads `N` patterns,
whichever rows it wrote, and each pattern drives all used cells at the read voltage,
which takes `N` times the energy of reading each cell alone.

**Arguments and returns:** as for `write_and_verify`.

**Example:**

    >>> how = sj.Programming(array=4, scheme=sj.hadamard_verify)
    >>> crossbar, stats = sj.program(np.eye(4), "epiram", how, key=jr.key(0))
    >>> bool(jnp.max(jnp.abs(sj.stored_matrix(crossbar) - np.eye(4))) < 0.05)
    True
"""
