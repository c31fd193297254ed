"""Schemes: the ways to program arrays, as records that know their form for many arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from .._cells.device import Device
from .._cells.pulse import Response
from .closed_loop import VerifyRule, WriteStats


@dataclass(frozen=True)
class Scheme:
    """A way to program arrays.

    Called like its function `one`. A function of your own that takes and returns the same
    is as good as a record: `sedma_jax.program` wraps it in one.

    - `one`: programs one array, of one cell per weight or of two. It takes the visible
        states to reach, the states before, a mask of the weights in use, the device, the
        response of its cells, a rule and a key; it returns the states reached and a
        `WriteStats`.
    - `several`: programs arrays that are stacked along a leading axis, each with a key of
        its own, to the same numbers. Without it arrays are programmed one by one.
    - `cellwise`: whether each cell is programmed by itself. Of a differential pair then
        only the cell that carries the weight takes part (see `Response.folded`).

    **Example:**

        >>> def half_way(target, *others, key):  # a scheme of your own
        ...     return sj.write_and_verify(target / 2, *others, key=key)
        >>> how = sj.Programming(array=4, scheme=half_way)
        >>> crossbar, _ = sj.program(np.eye(4), "epiram", how, key=jr.key(0))
        >>> bool(abs(sj.stored_matrix(crossbar)[0, 0] - 0.5) < 0.01)
        True
    """

    one: Callable[..., tuple[Float[Array, "polarity rows cols"], WriteStats]]
    several: Callable[..., tuple[Float[Array, "arrays ..."], WriteStats]] | None = None
    cellwise: bool = False

    @property
    def __name__(self) -> str:
        """The name of the function, without its leading underscore."""
        one = self.one
        while isinstance(one, partial):
            one = one.func
        return getattr(one, "__name__", type(one).__name__).lstrip("_")

    def __call__(
        self,
        target: Float[Array, "polarity rows cols"],
        initial: Float[Array, "polarity rows cols"],
        used: Bool[Array, "rows cols"],
        device: Device,
        response: Response,
        rule: VerifyRule,
        *,
        key: PRNGKeyArray,
        **options: Any,
    ) -> tuple[Float[Array, "polarity rows cols"], WriteStats]:
        """Program one array; `options` are those of the function `one` alone."""
        one = partial(self.one, **options)
        return self._run(one, target, initial, used, device, response, rule, key)

    def arrays(
        self,
        target: Float[Array, "arrays polarity rows cols"],
        initial: Float[Array, "arrays polarity rows cols"],
        used: Bool[Array, "arrays rows cols"],
        device: Device,
        response: Response,
        rule: VerifyRule,
        *,
        key: Key[Array, " arrays"],
    ) -> tuple[Float[Array, "arrays polarity rows cols"], WriteStats]:
        """Program several arrays at once, by the function `several`."""
        assert self.several is not None
        return self._run(self.several, target, initial, used, device, response, rule, key)

    def _run(self, write, target, initial, used, device, response, rule, key):
        folded = self.cellwise and response.folded is not None
        if not folded:
            return write(target, initial, used, device, response, rule, key=key)
        # Of each pair the cell that carries the weight; the other has the target zero.
        # A reduction would keep what computes the targets apart from what uses them.
        written = jnp.maximum(*jnp.split(target, 2, axis=-3))
        state, stats = write(
            written,
            jnp.zeros_like(written),
            used & (written[..., 0, :, :] > 0),
            device,
            response.folded,
            rule,
            key=key,
        )
        return jnp.where(target > 0, state, 0), stats


def as_scheme(scheme: Scheme | Callable) -> Scheme:
    """A scheme as a record: a plain function programs one array at a time.

    **Example:**

        >>> sj.kernels.as_scheme(sj.open_loop) is sj.open_loop
        True
        >>> sj.kernels.as_scheme(lambda *arrays, key: arrays[:2]).cellwise
        False
    """
    return scheme if isinstance(scheme, Scheme) else Scheme(scheme)
