"""How converters find a code: successive approximation, a pipeline, levels in turn.

Values and weights are in units of one step (LSB); ideal components give the codes that
rounding gives. The circuits are those of Spear et al. (2023, IEEE J. Explor. Solid-State
Comput. Devices Circuits 9, 176), who compare them in analog inference:

- A *SAR* converter takes the sign first, and then compares the magnitude with sums of
    binary weighted capacitors, the largest first (McCreary & Gray 1975, IEEE J. Solid-State
    Circuits 10, 371).
- A *pipeline* of stages of 1.5 bits compares with plus and minus a quarter of the
    reference, doubles, and subtracts the reference where it was exceeded; a flash of 2
    bits ends it (Lewis & Gray 1987, IEEE J. Solid-State Circuits 22, 954).
- A *ramp* (single-slope) converter counts until a staircase common to all bit lines passes
    the value; a *flash* compares with all its levels at once. Both are a table of
    transitions.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.requirements import FINITE, check_counts, check_given


class AbstractSearch(eqx.Module):
    """A search for the code of each value: one of `SarSearch`, `PipelineSearch`, ...

    **Example:**

        >>> issubclass(sj.kernels.SarSearch, sj.kernels.AbstractSearch)
        True
    """

    @property
    @abc.abstractmethod
    def bits(self) -> int:
        """The resolution, including the sign bit."""

    @abc.abstractmethod
    def find(self, values: Float[Array, "lines batch"]) -> Float[Array, "lines batch"]:
        """The codes of values in steps; arrays of the search begin with `lines`."""


class SarSearch(AbstractSearch):
    """Successive approximation of the magnitude by weights, after the sign.

    - `weights`: of each bit, in steps, the most significant first: ideally 2**(bits - 2)
        to 1. The last axis is the bits, `bits - 1` of them; those before are converters.

    **Raises:** `ValueError` for weights that are not finite.

    **Example:**

        >>> search = sj.kernels.SarSearch(jnp.array([[4.5, 2.0, 1.0]]))  # 4 would be ideal
        >>> print(search.find(jnp.array([[4.4, 3.6, -1.2]])))  # 4.4 + 1/2 reaches 4.5
        [[ 4.  3. -1.]]
    """

    weights: Float[Array, "*lines bits"]

    def __check_init__(self):
        remedy = "They are in steps, ideally powers of two."
        check_given("sedma_jax.kernels.SarSearch", FINITE, remedy, weights=self.weights)

    @property
    def bits(self) -> int:
        return self.weights.shape[-1] + 1

    def find(self, values: Float[Array, "lines batch"]) -> Float[Array, "lines batch"]:
        size, count = jnp.abs(values) + 0.5, self.weights.shape[-1]
        held, code = jnp.zeros_like(values), jnp.zeros_like(values)
        for place in range(count):
            trial = held + self.weights[: len(values), place, None].astype(values.dtype)
            kept = size >= trial
            held = jnp.where(kept, trial, held)
            code = code + jnp.where(kept, 2.0 ** (count - 1 - place), 0.0)
        return jnp.sign(values) * code


class PipelineSearch(AbstractSearch):
    """A pipeline of stages of 1.5 bits and a flash of 2 bits.

    A stage turns `v`, in units of the reference, into
    `((1 + ratio) v - d ratio) * settled`, where `d` is 1 above the upper threshold, -1
    below the lower one, and else 0. Offsets of comparators below a quarter of the reference
    cost nothing: later digits make up for them.

    - `ratio`: of the two capacitors of each stage, ideally 1; `bits - 2` stages.
    - `settled`: the share of its final value that the output of each stage reaches,
        ideally 1.
    - `offset`: of the comparators of each stage, in units of the reference: upper, lower.

    **Raises:** `ValueError` for numbers that are not finite.

    **Example:**

        >>> one, none = jnp.ones((1, 2)), jnp.full((1, 2, 2), 0.2)
        >>> search = sj.kernels.PipelineSearch(one, one, none)  # of 4 bits
        >>> print(search.find(jnp.array([[-7.0, -2.2, 0.4, 3.6]])))
        [[-7. -2.  0.  4.]]
    """

    ratio: Float[Array, "*lines stages"]
    settled: Float[Array, "*lines stages"]
    offset: Float[Array, "*lines stages sides"]

    def __check_init__(self):
        given = dict(ratio=self.ratio, settled=self.settled, offset=self.offset)
        remedy = "Ideal are 1, 1 and 0."
        check_given("sedma_jax.kernels.PipelineSearch", FINITE, remedy, **given)

    @property
    def bits(self) -> int:
        return self.ratio.shape[-1] + 2

    def find(self, values: Float[Array, "lines batch"]) -> Float[Array, "lines batch"]:
        top = 2.0 ** (self.bits - 1) - 1
        code = jnp.zeros_like(values)
        rest = jnp.clip(values, -top, top) / (top + 1)
        lines = slice(len(values))
        cast = lambda array, *at: array[(lines, *at, None)].astype(values.dtype)
        for stage in range(self.ratio.shape[-1]):
            above = rest > 0.25 + cast(self.offset, stage, 0)
            below = rest < -0.25 + cast(self.offset, stage, 1)
            digit = above.astype(values.dtype) - below.astype(values.dtype)
            ratio, settled = cast(self.ratio, stage), cast(self.settled, stage)
            rest = ((1 + ratio) * rest - ratio * digit) * settled
            code = 2 * code + digit
        code = 2 * code + jnp.clip(jnp.round(2 * rest), -2, 2)
        return jnp.clip(code, -top, top)


class TransitionSearch(AbstractSearch):
    """Counts the transitions below a value: a ramp, a flash, or a measured transfer curve.

    - `transitions`: values at which the code goes up, in steps, from the lowest code on,
        ascending: ideally `k + 1/2`. Before the last axis, of `2**bits - 2` transitions,
        come the converters.
    - `lines`: bit lines, one beside the other, that share one table. Static.

    **Raises:** `ValueError` for a number of transitions that no resolution has, or for
    transitions that do not ascend.

    **Example:**

        >>> table = sj.kernels.TransitionSearch(jnp.array([[-0.5, 0.9]]), lines=2)
        >>> print(table.find(jnp.array([[0.7], [1.0]])))  # 0.9 is where 0.5 should be
        [[0.]
         [1.]]
    """

    transitions: Float[Array, "*converters steps"]
    lines: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        call = "sedma_jax.kernels.TransitionSearch"
        check_counts(call, 1, 2**20, "It counts bit lines.", lines=self.lines)
        ascending = FINITE._replace(
            holds=lambda v: FINITE.holds(v) & (v.ndim > 0 and bool((_rise(v) >= 0).all())),
            text="to be finite and to ascend",
        )
        remedy = "They are in steps, ideally k + 1/2; sort them."
        check_given(call, ascending, remedy, transitions=self.transitions)
        steps = jnp.shape(self.transitions)[-1]
        if not 1 < self.bits <= 24 or 2**self.bits - 2 != steps:
            raise ValueError(
                f"`{call}` needs `2**bits - 2` transitions, one fewer than codes. Got "
                f"{steps}. Codes go from -(2**(bits - 1) - 1) to its opposite."
            )

    @property
    def bits(self) -> int:
        return (jnp.shape(self.transitions)[-1] + 2).bit_length() - 1

    def find(self, values: Float[Array, "lines batch"]) -> Float[Array, "lines batch"]:
        lines, batch = values.shape
        groups = -(-lines // self.lines)
        padded = jnp.pad(values, ((0, groups * self.lines - lines), (0, 0)))
        table = self.transitions[:groups].astype(values.dtype)
        count = jax.vmap(jnp.searchsorted)(table, padded.reshape(groups, -1))
        top = 2.0 ** (self.bits - 1) - 1
        codes = count.astype(values.dtype).reshape(-1, batch)[:lines] - top
        return codes


def _rise(values):
    return values[..., 1:] - values[..., :-1]
