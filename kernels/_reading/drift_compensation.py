"""Undo the mean effect of drift by a digital scale from a reference read.

Joshi et al. (2020, Nat. Commun. 11, 2473, "global drift compensation") read the array
with fixed inputs once after programming and again before use. The ratio of the summed
absolute column currents is the share of the conductance that is left.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def drift_compensation(
    reference_currents: Float[Array, "reads cols"], currents: Float[Array, "reads cols"]
) -> Float[Array, ""]:
    """One scale for the whole array: `sum |I(t_0)| / sum |I(t)|`.

    **Arguments:**

    - `reference_currents`: column currents, in amperes, of each reference input after
        programming.
    - `currents`: the same reads now.

    **Returns:**

    The factor for the outputs; 1 if no current flows now.

    **Example:**

        >>> before, now = jnp.array([[2e-6, 4e-6]]), jnp.array([[1e-6, 2e-6]])
        >>> print(np.asarray(sj.drift_compensation(before, now)).round(3))
        2.0
    """
    return _ratio(jnp.sum(jnp.abs(reference_currents)), jnp.sum(jnp.abs(currents)))


def column_drift_compensation(
    reference_currents: Float[Array, "reads cols"], currents: Float[Array, "reads cols"]
) -> Float[Array, " cols"]:
    """One scale per column, as `drift_compensation` has one for the whole array.

    **Example:**

        >>> before, now = jnp.array([[2e-6, 4e-6]]), jnp.array([[1e-6, 1e-6]])
        >>> print(np.asarray(sj.column_drift_compensation(before, now)).round(3))
        [2. 4.]
    """
    return _ratio(
        jnp.sum(jnp.abs(reference_currents), axis=0), jnp.sum(jnp.abs(currents), axis=0)
    )


def _ratio(
    before: Float[Array, " *cols"], now: Float[Array, " *cols"]
) -> Float[Array, " *cols"]:
    flows = now > 0
    ratio = before / jnp.where(flows, now, jnp.ones_like(now))
    return jnp.where(flows, ratio, jnp.ones_like(ratio))
