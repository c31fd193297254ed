"""A programmed crossbar as a lineax operator."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

from .._crossbar.abstract_crossbar import AbstractCrossbar, check_converters
from .._crossbar.converters import ADC, DAC
from .._crossbar.crossbar import Crossbar
from .._keys import check_key
from .._tiling.partition import check_dtype
from ._registration import register, transposed_tags


class CrossbarLinearOperator(lx.AbstractLinearOperator):
    """A programmed matrix, for every solver that takes a `lineax` operator.

    `mv` is one analog product. Read noise is a pure function of `key` and of the vector:
    different vectors get independent draws, so that a Krylov solver meets new noise in
    each step, and the same vector gets the same draw, as `jit` and `lineax` assume of an
    operator. Replace the key to get another draw.

    `transpose` is the operator of the stored matrix transposed, without noise and
    converters, which gradients of solutions need; `as_matrix` is the stored matrix.

    **Example:**

        >>> import lineax as lx
        >>> A, b = np.array([[4.0, 1.0], [1.0, 3.0]]), jnp.array([1.0, 2.0])
        >>> crossbar = sj.program_exactly(A, "epiram", array=2)
        >>> operator = sj.linalg.CrossbarLinearOperator(crossbar)  # no key, no noise
        >>> z = lx.linear_solve(operator, b, lx.GMRES(rtol=1e-4, atol=0.0)).value
        >>> print(np.asarray(11 * z).round(2))  # A^-1 b = (1, 7) / 11
        [1. 7.]
    """

    crossbar: AbstractCrossbar
    # The data of the key, since `equinox.tree_serialise_leaves` cannot write typed keys.
    key_data: UInt32[Array, " words"] | None
    key_impl: Any = eqx.field(static=True)
    dac: DAC | None
    adc: ADC | None
    tags: frozenset[object] = eqx.field(static=True)

    def __init__(
        self,
        crossbar: AbstractCrossbar,
        *,
        dac: DAC | None = None,
        adc: ADC | None = None,
        tags: object | frozenset[object] = (),
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `crossbar`: as made by `sedma_jax.program`, `program_residual` or `program_pool`.
        - `dac`, `adc`: converters; ideal if left out.
        - `tags`: what `lineax` may assume, e.g. `lineax.positive_semidefinite_tag`. They
            are not checked: programming errors make a symmetric matrix slightly
            unsymmetric.
        - `key`: typed key of the read noise. Without it arrays are read without noise.

        **Raises:**

        - `ValueError`: if `crossbar` is not a crossbar, or `key` is not a typed key.
        """
        if not isinstance(crossbar, AbstractCrossbar):
            raise ValueError(
                "`sedma_jax.linalg.CrossbarLinearOperator` needs a programmed crossbar. "
                f"Got {type(crossbar).__name__}. `crossbar, stats = sedma_jax.program(A, "
                "device, key=key)` makes one."
            )
        check_converters("linalg.CrossbarLinearOperator", dac, adc)
        self.crossbar = crossbar if key is not None else _without_read_noise(crossbar)
        self.key_data = None if key is None else jr.key_data(check_key(key))
        self.key_impl = None if key is None else jr.key_impl(key)
        self.dac, self.adc = dac, adc
        try:
            self.tags = frozenset(tags)  # pyright: ignore[reportArgumentType]
        except TypeError:  # one tag
            self.tags = frozenset([tags])

    @property
    def key(self) -> PRNGKeyArray | None:
        """The typed key of the read noise."""
        if self.key_data is None:
            return None
        return jr.wrap_key_data(self.key_data, impl=self.key_impl)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " m"]:
        """Multiply once on the analog arrays."""
        check_dtype(vector.dtype, "vector")
        # Without a key nothing is drawn, so that any key will do.
        key = jr.key(0) if self.key is None else jr.fold_in(self.key, _digest(vector))
        return self.crossbar.read(vector[None], self.dac, self.adc, key)[0]

    def as_matrix(self) -> Float[Array, "m n"]:
        """The matrix that the arrays hold, read without noise."""
        return self.crossbar.stored_matrix()

    def transpose(self) -> lx.AbstractLinearOperator:
        """The stored matrix transposed: no noise, ideal converters."""
        if lx.is_symmetric(self):
            return self
        return lx.MatrixLinearOperator(self.as_matrix().T, transposed_tags(self.tags))

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.crossbar.shape[1:], self._dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.crossbar.shape[:1], self._dtype)

    @property
    def _dtype(self) -> Any:
        return eqx.filter_eval_shape(lambda c: c.stored_matrix(), self.crossbar).dtype


def _without_read_noise(crossbar: AbstractCrossbar) -> AbstractCrossbar:
    """The crossbar, with no read noise in any of its parts."""

    def quiet(part: Any) -> Any:
        if not isinstance(part, Crossbar):
            return part
        device = dataclasses.replace(part.device, sigma_read=0.0)
        return dataclasses.replace(part, device=device, read_variance=None)

    return jax.tree.map(quiet, crossbar, is_leaf=lambda part: isinstance(part, Crossbar))


def _digest(vector: Float[Array, " n"]) -> UInt32[Array, ""]:
    """A hash of the bits of a vector: sums of mixed words (MurmurHash3's finaliser)."""
    words = lax.bitcast_convert_type(lax.stop_gradient(vector), jnp.uint32).ravel()
    place = lax.iota(jnp.uint32, words.size) * jnp.uint32(0x9E3779B9)
    return _mix(jnp.sum(_mix(words ^ _mix(place)), dtype=jnp.uint32))


def _mix(word: UInt32[Array, "*words"]) -> UInt32[Array, "*words"]:
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        word = (word ^ (word >> shift)) * jnp.uint32(factor)
    return word ^ (word >> 16)


register(CrossbarLinearOperator)
