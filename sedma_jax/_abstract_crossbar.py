"""What every programmed matrix can do, however its arrays are laid out."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ._converters import ADC, DAC


class AbstractCrossbar(eqx.Module):
    """A programmed matrix: what `matvec` and `corrected_matvec` multiply with."""

    shape: eqx.AbstractVar[tuple[int, int]]

    @abc.abstractmethod
    def read(
        self,
        x: Float[Array, "batch n"],
        dac: DAC | None,
        adc: ADC | None,
        key: PRNGKeyArray,
    ) -> Float[Array, "batch m"]:
        """`matvec`, for vectors that are checked already."""

    @abc.abstractmethod
    def stored_matrix(self) -> Float[Array, "m n"]:
        """The matrix that the crossbar multiplies with, read without noise."""
