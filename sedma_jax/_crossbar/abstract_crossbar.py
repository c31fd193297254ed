"""What every programmed matrix can do, however its arrays are laid out."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, PRNGKeyArray

from ..kernels import shown
from .converters import ADC, DAC


@runtime_checkable
class AbstractCrossbar(Protocol):
    """A programmed matrix: what `matvec` and `corrected_matvec` multiply with.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> isinstance(crossbar, sj.AbstractCrossbar), crossbar.shape
        (True, (4, 4))
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs, `(m, n)`."""
        ...

    def read(
        self,
        x: Float[Array, "batch n"],
        dac: DAC | None,
        adc: ADC | None,
        key: PRNGKeyArray,
    ) -> Float[Array, "batch m"]:
        """`matvec`, for vectors that are checked already."""
        ...

    def stored_matrix(self) -> Float[Array, "m n"]:
        """The matrix that the crossbar multiplies with, read without noise."""
        ...


def check_readable(
    call: str, crossbar: AbstractCrossbar, dac: DAC | None = None, adc: ADC | None = None
) -> None:
    """Refuse what cannot be read, and converters that are none.

    **Raises:**

    - `ValueError`: if `crossbar` is not programmed, or a converter is of another kind.
    """
    kind = type(crossbar)
    # An `isinstance` of a protocol takes longer than all else that is checked.
    if not (hasattr(kind, "read") and hasattr(kind, "stored_matrix")):
        raise ValueError(
            f"`sedma_jax.{call}` needs `crossbar` to be a programmed matrix. Got "
            f"{shown(crossbar)}. `crossbar, stats = sedma_jax.program(A, device, key=key)` "
            "makes one."
        )
    check_converters(call, dac, adc)


def check_converters(call: str, dac: DAC | None, adc: ADC | None) -> None:
    """Refuse converters of another kind, for the public function `call`."""
    for name, value, kind in (("dac", dac, DAC), ("adc", adc, ADC)):
        if value is not None and not isinstance(value, kind):
            bits = value if type(value) is int else 8
            raise ValueError(
                f"`sedma_jax.{call}` needs `{name}` to be a `sedma_jax.{kind.__name__}`. "
                f"Got {shown(value)}. Write `{name}=sedma_jax.{kind.__name__}({bits})`, "
                "or leave it out for ideal converters."
            )
