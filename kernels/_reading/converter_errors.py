"""Errors of converters: static ones of each converter, and noise of each conversion.

Values are in units of one step (LSB) of the ideal converter, whose codes are the whole
numbers from `-top` to `top`, `top = 2**(bits - 1) - 1`. Of a value `v` a converter sees

    u = (1 + gain) v + offset + inl (1 - (v / top)**2) + noise * n

with `n` standard normal and drawn for each conversion. Integral nonlinearity counts from
the line through both ends, as in IEEE Std 1241-2010; here it is a bow of second order that
vanishes there. An ideal search rounds `u`; those of `searches.py` are built as circuits
are, and have errors of their own.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._numerics.requirements import FINITE, FROM_ZERO, check_numbers
from .conversion import largest_code
from .searches import AbstractSearch
from .straight_through import straight_codes


def _present(value: Any) -> Any:
    """None for a plain zero, so that no code is compiled for it."""
    return None if type(value) in (int, float) and value == 0 else value


class ConverterErrors(eqx.Module):
    """Errors of physical converters; all but the noise stay the same from read to read.

    Each is one number, or an array with one for each converter: of an `ADC` in a shape that
    broadcasts against (tiles, 1, cols), of a `DAC` one for each input. `draw_adc` and
    `draw_dac` draw them from the statistics of a technology.

    - `offset`: in steps of the converter.
    - `gain`: relative error of the slope.
    - `inl`: integral nonlinearity in the middle of the range, in steps: a bow of second
        order.
    - `noise`: standard deviation of the noise of each conversion, in steps, from 0 up.
    - `search`: how an ADC finds the code: a `SarSearch`, a `PipelineSearch` or a
        `TransitionSearch`, with an entry for each tile; None for exact rounding.
    - `levels`: of a DAC, what each code adds to its ideal output, in steps: an array of
        shape (inputs, codes), from the lowest code up.

    **Raises:** `ValueError` for numbers out of range.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> errors = sj.ConverterErrors(offset=1.0)  # one step too high
        >>> adc = sj.ADC(8, 127.0, errors)  # steps of 1
        >>> y = sj.matvec(crossbar, np.array([1.0, 0.0, 0.0, 0.0]), adc=adc, key=jr.key(0))
        >>> print(np.asarray(y).round(3))
        [2. 1. 1. 1.]
    """

    offset: Float[Array, "..."] | float | None = eqx.field(converter=_present, default=None)
    gain: Float[Array, "..."] | float | None = eqx.field(converter=_present, default=None)
    inl: Float[Array, "..."] | float | None = eqx.field(converter=_present, default=None)
    noise: Float[Array, "..."] | float | None = eqx.field(converter=_present, default=None)
    search: AbstractSearch | None = None
    levels: Float[Array, "inputs codes"] | None = None

    def __check_init__(self):
        call, remedy = "sedma_jax.ConverterErrors", "It is in steps of the converter."
        static = dict(offset=self.offset, inl=self.inl, levels=self.levels)
        check_numbers(call, FINITE, remedy, **static)
        check_numbers(call, FINITE, "0.01 is one per cent.", gain=self.gain)
        check_numbers(call, FROM_ZERO, remedy, noise=self.noise)


def distort(
    errors: ConverterErrors,
    values: Float[Array, "*batch"],
    top: Float[Array, "*#batch"],
    draws: Float[Array, "*batch"] | None,
) -> Float[Array, "*batch"]:
    """What a converter sees of values, in steps; fields broadcast against `values`.

    **Example:**

        >>> errors = sj.ConverterErrors(gain=0.1, inl=2.0)
        >>> values = jnp.array([-10.0, 0.0, 10.0])
        >>> print(sj.kernels.distort(errors, values, jnp.array(10.0), None))
        [-11.   2.  11.]
    """
    seen = values
    if errors.gain is not None:
        seen = seen + jnp.asarray(errors.gain, values.dtype) * values
    if errors.offset is not None:
        seen = seen + jnp.asarray(errors.offset, values.dtype)
    if errors.inl is not None:
        seen = seen + jnp.asarray(errors.inl, values.dtype) * (1 - (values / top) ** 2)
    if errors.noise is not None and draws is not None:
        seen = seen + jnp.asarray(errors.noise, values.dtype) * draws
    return seen


def convert_lines(
    currents: Float[Array, "lines batch"],
    per_step: Float[Array, "*#lines"],
    lsb: Float[Array, "*#lines"],
    errors: ConverterErrors | None,
    draws: Float[Array, "lines batch"] | None,
    *,
    bits: Int[Array, ""] | int,
    straight: bool,
) -> Float[Array, "lines batch"]:
    """Currents as real converters report them.

    **Arguments:**

    - `currents`: of bit lines, in units of the current range of one cell.
    - `per_step`, `lsb`: steps per unit and size of a step, from `steps`; they broadcast
        against `currents`.
    - `errors`: one number for each bit line, `(lines,)`, and a search; None for none.
    - `draws`: standard normals for the noise of each conversion.
    - `bits`: resolution, including the sign bit.
    - `straight`: whether the rounding passes gradients, see `straight_codes`. Static.

    **Example:**

        >>> errors = sj.ConverterErrors(offset=jnp.array([2.0]))
        >>> one = jnp.ones((1, 1))
        >>> how = dict(bits=4, straight=False)
        >>> print(sj.kernels.convert_lines(3.3 * one, one, one, errors, None, **how))
        [[5.]]
    """
    top = largest_code(bits, currents.dtype)
    seen = currents * per_step
    search = None
    if errors is not None:
        search = errors.search
        along = jax.tree.map(lambda v: v[:, None], dataclasses.replace(errors, search=None))
        seen = distort(along, seen, top, draws)
    if search is None:
        found = jnp.clip(jnp.round(seen), -top, top)
    else:
        found = search.find(seen)
    if straight:
        found = straight_codes(lax.stop_gradient(found), seen, top)
    return found * lsb
