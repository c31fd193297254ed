"""Estimate the time of closed-loop programming without simulating it.

The model follows the mean of one word line of `c` cells. Noise and the corrections of
cautious trains balance at a two-sided exponential distribution, which the errors of
unfinished cells are assumed to have throughout, with standard deviation `s`. The line waits
for its longest train up and down, whose error is the largest of the cells, about
`s log(c) / sqrt(2)`. A train of `n` pulses moves a cell by `n / P` and adds noise
`sigma_c2c sqrt(n)`; the cell is finished with the probability that the remaining error lies
in the band. The estimate is for planning: it is within a factor of two of
`write_and_verify` on dense targets (`tests/tiling/test_planning.py`), and measured times
correct it.
"""

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._cells.device import Device
from .closed_loop import VerifyRule

_ROUNDS = 100


def expected_line_latency(
    device: Device, rule: VerifyRule, cells: Float[Array, ""]
) -> Float[Array, ""]:
    """Seconds to program one word line, pulses and verify reads together.

    **Arguments:**

    - `device`: the technology.
    - `rule`: stopping rule; its `tolerance` is not used.
    - `cells`: number of cells written on the line, with targets uniform from 0 to 1.
    """
    cells = jnp.asarray(cells)
    dtype = cells.dtype
    p_up, p_down, sigma, band, caution, most, t_up, t_down = (
        jnp.asarray(v, dtype)
        for v in (
            device.pulses_ltp,
            device.pulses_ltd,
            device.sigma_c2c,
            rule.band,
            rule.caution,
            rule.max_pulses,
            device.t_ltp,
            device.t_ltd,
        )
    )
    quiet = sigma + jnp.finfo(dtype).tiny ** 0.5

    def train(error, per_window):
        limit = jnp.maximum((caution * error / quiet) ** 2, 1)
        return jnp.maximum(jnp.minimum(jnp.minimum(error * per_window, most), limit), 1)

    # Largest distance of the pulse response from the straight line that sets the pulses.
    bend = 0.07 * jnp.abs(jnp.asarray(device.nonlinearity_ltp, dtype))
    start = train(cells / (cells + 1), p_up) * t_up
    left = jnp.hypot(sigma * jnp.sqrt(train(jnp.asarray(0.5, dtype), p_up)), bend)
    iterations = jnp.asarray(rule.iterations).astype(jnp.int32)

    def step(carry, number):
        seconds, unfinished, s = carry
        done = -jnp.expm1(-band * 2**0.5 / s)
        unfinished = unfinished * (1 - done)
        active = 1 - jnp.exp(-unfinished)  # chance that the line has a cell left
        worst = s * 0.5**0.5 * jnp.log1p(unfinished)
        worst = jnp.maximum(worst, band)
        half = 1 - jnp.exp(-unfinished / 2)  # that one is left above, or below
        pulses = half * (train(worst, p_up) * t_up + train(worst, p_down) * t_down)
        reads = active * jnp.asarray(device.t_read, dtype)
        going = number < iterations
        seconds = seconds + jnp.where(going, pulses + reads, 0)
        # Cautious trains fall short of the distance that they should cover.
        pulses = train(s, p_up)
        s = jnp.hypot(s - pulses / p_up, sigma * jnp.sqrt(pulses))
        s = jnp.maximum(s, 0.5 * band)
        return (seconds, unfinished, s), None

    begin = (start + 2 * jnp.asarray(device.t_read, dtype), cells, left)
    (seconds, _, _), _ = lax.scan(step, begin, jnp.arange(1, _ROUNDS, dtype=jnp.int32))
    return jnp.where(cells > 0, seconds, 0)
