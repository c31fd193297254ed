"""Draw the converters of a crossbar: static errors, each of one physical converter."""

import dataclasses
from functools import partial

import jax
import jax.random as jr
from jaxtyping import PRNGKeyArray

from .._keys import check_key
from .._mappings import forgettable
from ..kernels import (
    AbstractConverterSpread,
    ConverterErrors,
    ConverterSpread,
    Count,
    check_kind,
    draw_levels,
    fold_in_count,
    shown,
    whole,
)
from .converters import ADC, DAC
from .crossbar import Crossbar, check_crossbar, tile_index

# Numbers beside those of the effects on cells, so that one key draws each independently.
_ADC, _DAC = 5, 6


def draw_adc(
    adc: ADC, crossbar: Crossbar, spread: AbstractConverterSpread, *, key: PRNGKeyArray
) -> ADC:
    """Draw the errors of the converters of each array, which stay from read to read.

    **Arguments:**

    - `adc`: resolution and range. Errors it has are replaced.
    - `crossbar`: says which arrays there are.
    - `spread`: a `ConverterSpread`, `SarADC`, `RampADC` or `PipelineADC`.
    - `key`: identifies the converters: the same key gives the same errors. Those of a
        bit line depend on the key, on the place of its tile and on its number alone.

    **Returns:**

    The converters with their errors, for `matvec` with this crossbar, as it is now or after
    effects.

    **Raises:**

    - `ValueError`: if `adc`, `crossbar`, `spread` or `key` is none; if `bits` is traced.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> spread = sj.SarADC(mismatch=0.05, offset=0.5)
        >>> adc = sj.draw_adc(sj.ADC(8, 2.0), crossbar, spread, key=jr.key(0))
        >>> y, z = (sj.matvec(crossbar, np.ones(4), adc=adc, key=jr.key(n)) for n in (1, 2))
        >>> bool(jnp.all(y == z)), bool(jnp.max(jnp.abs(y - 1)) < 0.1)
        (True, True)
    """
    check_key(key)
    check_crossbar("draw_adc", crossbar=crossbar)
    check_kind("sedma_jax.draw_adc", ADC, "a `sedma_jax.ADC`", "Such as `ADC(8)`.", adc=adc)
    remedy = "Such as `SarADC(mismatch=0.01)`."
    kind = AbstractConverterSpread
    wanted = "statistics of converters"
    check_kind("sedma_jax.draw_adc", kind, wanted, remedy, spread=spread)
    how = dict(bits=_known_bits("draw_adc", adc), cols=crossbar.array[1])
    errors = _adc_errors(spread, tile_index(crossbar), jr.fold_in(key, _ADC), **how)
    return dataclasses.replace(adc, errors=errors)


def draw_dac(
    dac: DAC, crossbar: Crossbar, spread: ConverterSpread, *, key: PRNGKeyArray
) -> DAC:
    """Draw the errors of the converters that drive word lines, one for each input.

    **Arguments:**

    - `dac`, `crossbar`, `key`: as of `draw_adc`.
    - `spread`: its steps are those of the DAC, and each input has a converter of its own.

    **Raises:**

    - `ValueError`: as `draw_adc` does.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> spread = sj.ConverterSpread(offset=0.5, dnl=0.1)
        >>> dac = sj.draw_dac(sj.DAC(8), crossbar, spread, key=jr.key(0))
        >>> y = sj.matvec(crossbar, np.ones(4), dac=dac, key=jr.key(1))
        >>> bool(jnp.all(jnp.abs(y - 1) < 4 / 127))
        True
    """
    check_key(key)
    check_crossbar("draw_dac", crossbar=crossbar)
    check_kind("sedma_jax.draw_dac", DAC, "a `sedma_jax.DAC`", "Such as `DAC(8)`.", dac=dac)
    remedy = "Such as `ConverterSpread(offset=0.5)`."
    kind = ConverterSpread
    check_kind("sedma_jax.draw_dac", kind, "a `ConverterSpread`", remedy, spread=spread)
    how = dict(bits=_known_bits("draw_dac", dac), inputs=crossbar.shape[1])
    errors = _dac_errors(spread, jr.fold_in(key, _DAC), **how)
    return dataclasses.replace(dac, errors=errors)


def _known_bits(call: str, converter: ADC | DAC) -> int:
    bits = whole(converter.bits)
    if bits is None:
        raise ValueError(
            f"`sedma_jax.{call}` needs `bits` to be known. Got {shown(converter.bits)}. "
            "Draw converters before `jit` and `vmap`, one set for each resolution."
        )
    return bits


@forgettable
@partial(jax.jit, static_argnames=("bits", "cols"))
def _adc_errors(
    spread: AbstractConverterSpread, places: Count, key: PRNGKeyArray, bits: int, cols: int
) -> ConverterErrors:
    draw = lambda place: spread.draw(bits, cols, key=fold_in_count(key, place))
    errors = jax.vmap(draw)(places)
    fields = jax.tree.map(lambda v: v[:, None], dataclasses.replace(errors, search=None))
    return dataclasses.replace(fields, search=errors.search)


@forgettable
@partial(jax.jit, static_argnames=("bits", "inputs"))
def _dac_errors(
    spread: ConverterSpread, key: PRNGKeyArray, bits: int, inputs: int
) -> ConverterErrors:
    return draw_levels(spread, bits, inputs, key=key)
