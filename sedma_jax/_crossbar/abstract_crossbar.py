"""What every programmed matrix can do, however its arrays are laid out."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, PRNGKeyArray

from .converters import ADC, DAC


@runtime_checkable
class AbstractCrossbar(Protocol):
    """A programmed matrix: what `matvec` and `corrected_matvec` multiply with."""

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
