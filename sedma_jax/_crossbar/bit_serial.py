"""Apply inputs one bit at a time, so that word lines need no digital-to-analog converters.

An input is an integer in sign and magnitude. Plane `k` drives each word line at the read
voltage times the sign where bit `k` of the magnitude is set, and at zero elsewhere: three
levels, `-v`, `0` and `v`. Each plane is a read of its own, with its own noise and its own
conversion; the results are shifted by `k` bits and added digitally. `bits - 1` planes make
up an input of `bits` bits with sign. Drivers of one polarity only take twice the reads: one
pass for the positive inputs and one for the negative ones.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._keys import check_key
from .._tiling.partition import Vectors
from .converters import ADC, drive_lines
from .crossbar import (
    Crossbar,
    check_vector,
    read,
)


def bit_planes(x: Float[Array, "batch n"], *, bits: int) -> Float[Array, "planes batch n"]:
    """What drives the word lines, plane by plane, the least significant first.

    **Arguments:**

    - `x`: vectors; each is scaled so that its largest magnitude is `2**(bits - 1) - 1`,
        and rounded.
    - `bits`: with sign, from 2 to 24.

    **Returns:**

    -1, 0 and 1, with `sum_k 2**k planes[k]` the rounded integers.

    **Raises:**

    - `ValueError`: if `bits` is out of range.
    """
    if not 2 <= bits <= 24:
        raise ValueError(
            "`sedma_jax.bit_planes` needs `bits` from 2 to 24, one of them the sign. "
            f"Got {bits=}."
        )
    scaled, _ = drive_lines(x, None)
    whole = jnp.round(scaled * (2 ** (bits - 1) - 1))
    places = jnp.arange(bits - 1, dtype=jnp.int32)[:, None, None]
    magnitude = jnp.abs(whole).astype(jnp.int32)[None]
    return jnp.sign(whole)[None] * ((magnitude >> places) & 1).astype(x.dtype)


def bit_serial_matvec(
    crossbar: Crossbar,
    x: Vectors,
    *,
    bits: int,
    adc: ADC | None = None,
    key: PRNGKeyArray,
) -> Float[Array, "*batch m"]:
    """Multiply with inputs applied one bit at a time, in sign and magnitude.

    **Arguments:**

    - `crossbar`: from `program`, and effects.
    - `x`: one vector `(n,)`, or `(batch, n)`.
    - `bits`: of the inputs, with sign; `bits - 1` reads.
    - `adc`: converters of every read. Calibrate them with `bit_planes` of typical inputs:
        planes drive harder than the inputs that they make up. Without a range, all
        planes of a call share an automatic one.
    - `key`: typed key of the read noise.

    **Raises:**

    - `ValueError`: as `matvec` and `bit_planes` do.
    """
    check_key(key)
    x = check_vector(x, crossbar)
    y = _bit_serial(crossbar, jnp.atleast_2d(x), adc, key, bits)
    return y if x.ndim == 2 else y[0]


@partial(jax.jit, static_argnames=("bits",))
def _bit_serial(crossbar, x, adc, key, bits):
    x = x.astype(crossbar.dtype)
    _, drive = drive_lines(x, None)
    planes = bit_planes(x, bits=bits)
    # All planes in one batch: the matrix is fetched once. Full drive of a plane is one, but
    # for planes without a bit, which are zero.
    sums = read(crossbar, planes.reshape(-1, x.shape[1]), None, adc, key)
    weight = jnp.asarray([2.0**k for k in range(len(planes))], x.dtype)
    shifted = jnp.tensordot(weight, sums.reshape(len(planes), len(x), -1), 1)
    return shifted * (drive / (2 ** (bits - 1) - 1))
