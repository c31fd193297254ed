"""Stuck cells, which do not respond to programming and stay at one end of the window."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int8, PRNGKeyArray

from .._numerics.requirements import known_numbers, shown
from .device import Scalar


def draw_faults(
    shape: tuple[int, ...], p_on: Scalar, p_off: Scalar, *, key: PRNGKeyArray
) -> Int8[Array, " *shape"]:
    """Draw a map of stuck cells, independently for each cell.

    **Arguments:**

    - `shape`: shape of the array.
    - `p_on`, `p_off`: probabilities that a cell is stuck at `g_max` or at `g_min`,
        from 0 up and at most 1 together, with a resolution of 2**-23.
    - `key`: identifies the array.

    **Returns:**

    +1 where a cell is stuck on, -1 where it is stuck off, 0 where it is healthy.

    **Raises:**

    - `ValueError`: if the probabilities are Python numbers outside these limits.

    **Example:**

        >>> faults = sj.kernels.draw_faults((64, 64), 0.01, 0.05, key=jr.key(0))
        >>> bool(abs(jnp.mean(faults == -1) - 0.05) < 0.02)  # stuck off
        True
    """
    known = [p for p in map(known_numbers, (p_on, p_off)) if p is not None]
    shares = all(p.dtype.kind in "iuf" and np.all((p >= 0) & (p <= 1)) for p in known)
    # Sums like 0.9 + 0.1 may round up.
    if not shares or np.any(sum(known) > 1 + 2**-23):
        raise ValueError(
            "`sedma_jax.kernels.draw_faults` needs probabilities from 0 up, at most 1 "
            f"together. Got p_on={shown(p_on)}, p_off={shown(p_off)}. Divide percentages "
            "by 100."
        )
    position = jr.uniform(key, shape, jnp.float32)
    p_on = jnp.asarray(p_on, jnp.float32)
    either = p_on + jnp.asarray(p_off, jnp.float32)
    off = -(position < either).astype(jnp.int8)
    return jnp.where(position < p_on, jnp.ones_like(off), off)


def apply_faults(
    conductance: Float[Array, " *cells"],
    faults: Int8[Array, " *cells"],
    g_min: Scalar,
    g_max: Scalar,
) -> Float[Array, " *cells"]:
    """Put stuck cells at the ends of their window.

    **Arguments:**

    - `conductance`: conductances of all cells as if they were healthy, in siemens.
    - `faults`: +1 stuck on, -1 stuck off, 0 healthy, from `draw_faults` or measured.
    - `g_min`, `g_max`: conductances of stuck cells, in siemens.

    **Returns:**

    Conductances in siemens; those of healthy cells are unchanged bit for bit.

    **Example:**

        >>> faults = jnp.array([1, -1, 0], jnp.int8)
        >>> g = sj.kernels.apply_faults(jnp.full(3, 5e-6), faults, 1e-6, 1e-5)
        >>> print(np.asarray(1e6 * g).round(3))  # stuck on, stuck off, healthy
        [10.  1.  5.]
    """
    low, high = (jnp.asarray(g, conductance.dtype) for g in (g_min, g_max))
    return jnp.where(faults > 0, high, jnp.where(faults < 0, low, conductance))
