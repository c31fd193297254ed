"""Program one array by gradient descent on the error of its products.

Each round multiplies a batch of random vectors `X`, one to a row, and compares the result
`X W~` with the exact `X W`. The gradient of the mean squared error,

    G = X^T (X W~ - X W) / B,

is `W~ - W` on average, so that a step `-eta G` needs no read of a single cell (Buechel
et al. 2022, IEDM, arXiv 2305.16647).

With entries of random sign, `E[S] = I` and `E[S^2] = (1 + (R - 1) / B) I` for
`S = X^T X / B` and `R` rows. A step therefore multiplies the mean square of the error by
`1 - 2 eta + eta^2 (1 + (R - 1) / B)`, which is least at

    eta = B / (B + R - 1),

where it is `1 - eta`.

A single gradient is mostly the crosstalk of the other rows, with standard error `|X W~ -
X W| / B`, and every pulse adds cycle-to-cycle noise. Unlike the published method, this one
takes only steps that exceed a multiple of their standard error, so that cells that are
right stay right, as they do in write-and-verify.
"""

import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

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


def _gradient_programming(
    target: Float[Array, "polarity rows cols"],
    initial: Float[Array, "polarity rows cols"],
    used: Bool[Array, "rows cols"],
    device: Device,
    response: Response,
    rule: VerifyRule,
    *,
    vectors_per_row: int = 1,
    significance: Scalar = 3.0,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "polarity rows cols"], WriteStats]:
    if vectors_per_row < 1:
        raise ValueError(
            "`sedma_jax.gradient_programming` needs `vectors_per_row >= 1`. "
            f"Got {vectors_per_row=}. A gradient takes at least one product."
        )
    polarity, rows, _ = target.shape
    dtype = target.dtype
    highest = lax.Precision.HIGHEST
    used_rows = jnp.any(used, axis=1)
    batch = vectors_per_row * jnp.sum(used_rows, dtype=dtype)
    size = jnp.maximum(batch, 1)
    eta = size / (size + size / vectors_per_row - 1)
    count = vectors_per_row * rows
    applied = jnp.arange(count, dtype=dtype) < batch
    threshold = jnp.minimum(significance, jnp.sqrt(size) / 2)
    lines = applied[:, None] & jnp.any(used, axis=0)[None, :]
    if polarity == 1:
        moves = jnp.ones_like(target)
    else:
        positive = (target[0] >= target[1]).astype(dtype)
        moves = jnp.stack([positive, positive - 1])

    def sense(state, written, key):
        # A product mixes all rows, so that rows not written are read too.
        del written
        vector_key, noise_key = jr.split(key)
        signs = jr.rademacher(vector_key, (count, rows), dtype)
        vectors = jnp.where(applied[:, None] & used_rows[None, :], signs, 0)
        distance = jnp.where(used[None], target - visible_state(state, device), 0)
        distance = distance[0] if polarity == 1 else distance[0] - distance[1]
        sigma = device.sigma_read * polarity**0.5
        noise = gaussian(sigma, lines.shape, dtype, key=noise_key)
        missed = jnp.matmul(vectors, distance, precision=highest)
        missed = missed - jnp.where(lines, noise, 0)
        gradient = jnp.matmul(vectors.T, missed, precision=highest) / size
        crosstalk = jnp.sqrt(jnp.sum(missed**2, axis=0, keepdims=True)) / size
        stands_out = jnp.abs(gradient) > threshold * crosstalk
        step = jnp.where(stands_out, eta * gradient, 0)
        return Sensed(
            jnp.where(used[None], moves * step[None], 0),
            jnp.sqrt(jnp.sum(missed**2) / size),
            batch * read_energy(state, used, device),
            batch * device.t_read,
        )

    how = (device, response, rule)
    return closed_loop(sense, initial, used, *how, reopen=True, key=key)


gradient_programming = Scheme(_gradient_programming)
"""Program one array by gradient descent on the error of its products.

With one vector per used row, a round takes as many reads as reading each row alone;
more vectors make the gradient less random at the cost of reads. Entries are random
signs of the whole read voltage, the largest possible input. The products of a pair are
read as a difference: the cell with the larger target is pulsed, and the other one is
left unchanged. Pulses follow from the step `-eta G` as they do from a distance in
`write_and_verify`.

Each read has the noise of the sense circuit, `sigma_read` per bit line. Every product
drives all used cells: a batch of `B` takes `B` times the energy of reading each cell
alone.

**Arguments:**

- `rule`: as for `write_and_verify`; the band applies to steps.
- `vectors_per_row`: vectors of a batch per used row, at least 1. Static.
- `significance`: number of standard errors that a step must exceed, from 0 (plain
    gradient descent); at most half the largest possible number, `sqrt(B)`.
- the others: as for `write_and_verify`.

**Returns:**

The states reached, and the `WriteStats`. The residual is that of the products divided
by the root of the number of used rows, whose mean square is that of the weights,
averaged over all cells.

**Raises:**

- `ValueError`: if `vectors_per_row < 1`.

**Example:**

    >>> how = sj.Programming(array=4, scheme=sj.gradient_programming)
    >>> crossbar, stats = sj.program(np.eye(4), "epiram", how, key=jr.key(0))
    >>> bool(jnp.max(jnp.abs(sj.stored_matrix(crossbar) - np.eye(4))) < 0.1)
    True
"""
