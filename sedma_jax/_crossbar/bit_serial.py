"""Apply inputs a few bits at a time, so that word lines need small converters, or none.

An input is an integer in sign and magnitude, its magnitude digits to the base
`2**slice_bits`. Plane `k` drives a word line at the read voltage times the sign times digit
`k`, over the largest digit; with one bit a slice there are three levels, `-v`, `0` and `v`.
Each plane is a separate read, with its own noise and its own conversion; the results are
shifted by `k` digits and added digitally. An input of `bits` bits, sign included, has
`bits - 1` planes of one bit. Drivers of a single polarity would need twice the reads: one
pass for the positive inputs and one for the negative ones.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._keys import check_key
from .._mappings import forgettable
from .._tiling.partition import Vectors, checked_array
from ..kernels import POSITIVE, check_counts, check_numbers, known_numbers, shown
from .abstract_crossbar import check_converters
from .converters import ADC, check_bits, drive_lines
from .crossbar import (
    Crossbar,
    check_crossbar,
    check_vector,
    is_quiet,
    read,
)

Range = Float[Array, ""] | float | None


def bit_planes(
    x: Float[Array, "batch n"],
    *,
    bits: int,
    slice_bits: int = 1,
    full_scale: Range = None,
) -> Float[Array, "planes batch n"]:
    """Split vectors into the planes that drive the word lines, least significant first.

    **Arguments:**

    - `x`: vectors; each is scaled so that its largest magnitude is `2**(bits - 1) - 1`,
        and rounded.
    - `bits`: resolution including the sign bit, from 2 to 24.
    - `slice_bits`: bits of each plane, from 1 up; the last plane takes what is left.
    - `full_scale`: the input that is `2**(bits - 1) - 1`, in place of the largest of each
        vector; larger ones are clipped.

    **Returns:**

    Planes of digits over the largest digit, `d = 2**slice_bits - 1`, from -1 to 1:
    `sum_k d 2**(slice_bits k) planes[k]` is the vector of rounded integers.

    **Raises:**

    - `ValueError`: if `bits`, `slice_bits` or `full_scale` is out of range, or `x` is not
        two-dimensional, real and finite.

    **Example:**

        >>> planes = sj.bit_planes(jnp.array([[3.0, -1.0, 0.0]]), bits=3)
        >>> print(planes[:, 0] + 0)  # 3 = 1 + 2
        [[ 1. -1.  0.]
         [ 1.  0.  0.]]
    """
    check_slices("bit_planes", bits, slice_bits, full_scale)
    planes, _ = split_planes(checked_array(x, "x", ndim=2), bits, slice_bits, full_scale)
    return planes


def check_slices(call: str, bits: int, slice_bits: int, full_scale: Range) -> None:
    """Refuse slices of inputs that cannot be."""
    call = f"sedma_jax.{call}"
    check_bits(call, bits)
    check_counts(call, 1, 23, "One bit needs no converter.", slice_bits=slice_bits)
    remedy = "Leave it out for the largest of each vector."
    known = known_numbers(full_scale)
    if known is not None and known.ndim:
        raise ValueError(
            f"`{call}` needs one `full_scale` for all inputs. Got {shown(full_scale)}. "
            f"{remedy}"
        )
    check_numbers(call, POSITIVE, remedy, full_scale=full_scale)


def split_planes(
    x: Float[Array, "batch n"], bits: int, slice_bits: int, full_scale: Range
) -> tuple[Float[Array, "planes batch n"], Float[Array, "batch 1"]]:
    """Planes of digits over the largest one, and the input of each vector at full drive."""
    drive = None
    if full_scale is not None:
        drive = jnp.broadcast_to(jnp.asarray(full_scale, x.dtype), (len(x), 1))
    scaled, drive = drive_lines(x, None, drive)
    if full_scale is not None:
        scaled = jnp.clip(scaled, -1, 1)
    whole = jnp.round(scaled * (2 ** (bits - 1) - 1))
    places = jnp.arange(0, bits - 1, slice_bits, dtype=jnp.int32)[:, None, None]
    magnitude = jnp.abs(whole).astype(jnp.int32)[None]
    largest = 2**slice_bits - 1
    digits = ((magnitude >> places) & largest).astype(x.dtype)
    return jnp.sign(whole)[None] * digits / largest, drive


def plane_weights(bits: int, slice_bits: int, dtype) -> Float[Array, " planes"]:
    """What a plane at full drive adds to the integer."""
    places = range(0, bits - 1, slice_bits)
    return jnp.asarray([(2.0**slice_bits - 1) * 2.0**place for place in places], dtype)


def bit_serial_matvec(
    crossbar: Crossbar,
    x: Vectors,
    *,
    bits: int,
    slice_bits: int = 1,
    full_scale: Range = None,
    adc: ADC | None = None,
    key: PRNGKeyArray,
) -> Float[Array, "*batch m"]:
    """Multiply with inputs applied a few bits at a time, in sign and magnitude.

    **Arguments:**

    - `crossbar`: from `program`, and effects.
    - `x`: one vector `(n,)`, or `(batch, n)`.
    - `bits`: resolution of the inputs including the sign bit.
    - `slice_bits`: bits of each read, from 1 up; there are `(bits - 1) / slice_bits`
        reads, rounded up. Beyond 1, word lines need converters.
    - `full_scale`: as of `bit_planes`. With `2**(bits - 1) - 1` whole numbers stay as they
        are, and with `lossless_adc` their product is exact.
    - `adc`: converters of every read. Calibrate them with the `bit_planes` of typical
        inputs, since a plane drives the lines harder than the input it is part of; wider
        slices go with `dac=DAC(slice_bits + 1, 1.0)`. Without a range, each plane of each
        vector has an automatic one.
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
    check_slices("bit_serial_matvec", bits, slice_bits, full_scale)
    x = check_vector(x, crossbar)
    how = dict(bits=bits, slice_bits=slice_bits, quiet=is_quiet(crossbar))
    y = _bit_serial(crossbar, jnp.atleast_2d(x), full_scale, adc, key, **how)
    return y if x.ndim == 2 else y[0]


@forgettable
@partial(jax.jit, static_argnames=("bits", "slice_bits", "quiet"))
def _bit_serial(
    crossbar: Crossbar,
    x: Float[Array, "batch n"],
    full_scale: Range,
    adc: ADC | None,
    key: PRNGKeyArray,
    bits: int,
    slice_bits: int,
    quiet: bool,
) -> Float[Array, "batch m"]:
    x = x.astype(crossbar.dtype)
    planes, drive = split_planes(x, bits, slice_bits, full_scale)
    # All planes form one batch, so that the matrix is fetched once. The full drive of each
    # is 1, whatever its digits.
    lines = planes.reshape(-1, x.shape[1])
    one = jnp.ones((len(lines), 1), x.dtype)
    sums = read(crossbar, lines, None, adc, key, one, quiet=quiet)
    weights = plane_weights(bits, slice_bits, x.dtype)
    shifted = jnp.tensordot(weights, sums.reshape(len(planes), len(x), -1), 1)
    return shifted * (drive / (2 ** (bits - 1) - 1))
