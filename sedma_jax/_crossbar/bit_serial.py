"""Apply inputs one bit at a time, so that word lines need no digital-to-analog converters.

An input is an integer in sign and magnitude. Plane `k` drives a word line at the read
voltage times the sign if bit `k` of the magnitude is set, and at zero otherwise: there are
three levels, `-v`, `0` and `v`. Each plane is a separate read, with its own noise and its
own conversion; the results are shifted by `k` bits and added digitally. An input of `bits`
bits, sign included, has `bits - 1` planes. Drivers of a single polarity would need twice
the reads: one pass for the positive inputs and one for the negative ones.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._keys import check_key
from .._mappings import forgettable
from .._tiling.partition import Vectors, checked_array
from .abstract_crossbar import check_converters
from .converters import ADC, check_bits, drive_lines
from .crossbar import (
    Crossbar,
    check_crossbar,
    check_vector,
    is_quiet,
    read,
)


def bit_planes(x: Float[Array, "batch n"], *, bits: int) -> Float[Array, "planes batch n"]:
    """Split vectors into the planes that drive the word lines, least significant first.

    **Arguments:**

    - `x`: vectors; each is scaled so that its largest magnitude is `2**(bits - 1) - 1`,
        and rounded.
    - `bits`: resolution including the sign bit, from 2 to 24.

    **Returns:**

    Planes of -1, 0 and 1; `sum_k 2**k planes[k]` is the vector of rounded integers.

    **Raises:**

    - `ValueError`: if `bits` is out of range, or `x` is not two-dimensional, real and
        finite.

    **Example:**

        >>> planes = sj.bit_planes(jnp.array([[3.0, -1.0, 0.0]]), bits=3)
        >>> print(planes[:, 0] + 0)  # 3 = 1 + 2
        [[ 1. -1.  0.]
         [ 1.  0.  0.]]
    """
    check_bits("sedma_jax.bit_planes", bits)
    return _planes(checked_array(x, "x", ndim=2), bits)


def _planes(x: Float[Array, "batch n"], bits: int) -> Float[Array, "planes batch n"]:
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
    - `bits`: resolution of the inputs including the sign bit; there are `bits - 1` reads.
    - `adc`: converters of every read. Calibrate them with the `bit_planes` of typical
        inputs, since a plane drives the lines harder than the input it is part of. Without
        a range, all planes of a call share an automatic one.
    - `key`: typed key of the read noise.

    **Raises:**

    - `ValueError`: as `matvec` and `bit_planes` do.

    **Example:**

        >>> A, x = np.eye(4), np.array([3.0, -1.0, 0.0, 2.0])
        >>> crossbar = sj.program_exactly(A, "epiram", array=4)
        >>> y = sj.bit_serial_matvec(crossbar, x, bits=3, key=jr.key(0))
        >>> print(np.asarray(y).round(3) + 0)
        [ 3. -1.  0.  2.]
    """
    check_key(key)
    check_crossbar("bit_serial_matvec", crossbar=crossbar)
    check_converters("bit_serial_matvec", None, adc)
    check_bits("sedma_jax.bit_serial_matvec", bits)
    x = check_vector(x, crossbar)
    y = _bit_serial(crossbar, jnp.atleast_2d(x), adc, key, bits, is_quiet(crossbar))
    return y if x.ndim == 2 else y[0]


@forgettable
@partial(jax.jit, static_argnames=("bits", "quiet"))
def _bit_serial(
    crossbar: Crossbar,
    x: Float[Array, "batch n"],
    adc: ADC | None,
    key: PRNGKeyArray,
    bits: int,
    quiet: bool,
) -> Float[Array, "batch m"]:
    x = x.astype(crossbar.dtype)
    _, drive = drive_lines(x, None)
    planes = _planes(x, bits)
    # All planes form one batch, so that the matrix is fetched once. The full drive of each
    # plane is 1, except that a plane without any bit is zero.
    lines = planes.reshape(-1, x.shape[1])
    sums = read(crossbar, lines, None, adc, key, quiet=quiet)
    weight = jnp.asarray([2.0**k for k in range(len(planes))], x.dtype)
    shifted = jnp.tensordot(weight, sums.reshape(len(planes), len(x), -1), 1)
    return shifted * (drive / (2 ** (bits - 1) - 1))
