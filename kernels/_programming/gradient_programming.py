"""Program one array by gradient descent on the error of its products.

Each round multiplies a batch of random vectors `X`, one to a row, and compares the result
`X W~` with the exact `X W`. The gradient of the mean squared error,

    G = X^T (X W~ - X W) / B,

is `W~ - W` on average, so that a step `-eta G` needs no reading of single cells (Buechel
et al. 2022, IEDM, arXiv 2305.16647).

With entries of random sign, `E[S] = I` and `E[S^2] = (1 + (R - 1) / B) I` for
`S = X^T X / B` and `R` rows. The mean square of the error after a step is therefore
`1 - 2 eta + eta^2 (1 + (R - 1) / B)` times what it was, least at

    eta = B / (B + R - 1),

where it is `1 - eta`.

A single gradient is mostly the crosstalk of the other rows, with standard error `|X W~ -
X W| / B`, and every pulse adds cycle-to-cycle noise. So only steps that stand out from
their standard error are taken, which the published method does without: cells that are
right then stay so, as they do in write-and-verify.
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
            f"Got {vectors_per_row=}. A gradient takes a product."
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
        # A product mixes all rows, so those not written are read along.
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

With one vector a used row, a round takes as many reads as reading each row alone;
more of them make the gradient less random, at the cost of reads. Entries are random
signs of the whole read voltage, the largest input there is. Of a pair, whose products
are read as a difference, the cell with the larger target is pulsed and the other
stays as it is. Pulses follow from the step `-eta G` as they do from a distance in
`write_and_verify`.

Each read has the noise of the sense circuit, `sigma_read` a bit line. Every product
drives all used cells: a batch of `B` takes `B` times the energy of reading each cell
alone.

**Arguments:**

- `rule`: as for `write_and_verify`; the band applies to steps.
- `vectors_per_row`: size of a batch in used rows, at least 1. Static.
- `significance`: standard errors that a step needs, from 0 (plain gradient descent);
    taken as half the largest possible number, `sqrt(B)`, where that is less.
- the others: as for `write_and_verify`.

**Returns:**

The states reached, and what it took. The residual is that of the products over the
root of the used rows, whose mean square is that of the weights, spread over all cells.

**Raises:**

- `ValueError`: if `vectors_per_row < 1`.
"""
