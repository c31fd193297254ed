"""Recurrent cells whose two matrices crossbar arrays hold."""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._tiling.native import as_floats
from ._layers import AnalogLinear, emptied

MATRICES = ("weight_ih", "weight_hh")


class AnalogLSTMCell(eqx.Module):
    """`equinox.nn.LSTMCell` with its matrices on crossbar arrays; gates are digital.

    `analogize` makes one. In a `scan` with the keys of `with_read_keys` every step has the
    same noise: pass a key for each step instead.

    - `weight_ih`, `weight_hh`: of the input, with the bias, and of the hidden state.
    - `layer`: the digital cell without its weights.

    **Example:**

        >>> import equinox as eqx
        >>> cell = eqx.nn.LSTMCell(3, 4, key=jr.key(0))
        >>> analog = sj.nn.analogize(cell, "epiram", array=4, key=jr.key(1))
        >>> x, state = jnp.ones(3), (jnp.zeros(4), jnp.zeros(4))
        >>> (h, c), exact = analog(x, state, key=jr.key(2)), cell(x, state)
        >>> bool(jnp.max(jnp.abs(h - exact[0])) < 0.1)
        True
    """

    weight_ih: AnalogLinear
    weight_hh: AnalogLinear
    layer: eqx.nn.LSTMCell = eqx.field(static=True)

    def __call__(
        self,
        input: Float[Array, " inputs"],
        hidden: tuple[Float[Array, " hidden"], Float[Array, " hidden"]],
        *,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, " hidden"], Float[Array, " hidden"]]:
        """One step, with the read noise of `key`: the new hidden and cell state."""
        h, c = hidden
        of_input, of_state = _products(self, input, h, key)
        i, f, g, o = jnp.split(of_input + of_state, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    def digital(self) -> eqx.nn.LSTMCell:
        """The digital cell with the weights that the arrays hold."""
        return _filled(self)


class AnalogGRUCell(eqx.Module):
    """`equinox.nn.GRUCell` with its matrices on crossbar arrays; gates are digital.

    - `weight_ih`, `weight_hh`, `layer`: as in `AnalogLSTMCell`.
    - `bias_n`: bias of the hidden state's part of the new state, or None.

    **Example:**

        >>> import equinox as eqx
        >>> cell = eqx.nn.GRUCell(3, 4, key=jr.key(0))
        >>> analog = sj.nn.analogize(cell, "epiram", array=4, key=jr.key(1))
        >>> x, state = jnp.ones(3), jnp.zeros(4)
        >>> h = analog(x, state, key=jr.key(2))
        >>> bool(jnp.max(jnp.abs(h - cell(x, state))) < 0.1)
        True
    """

    weight_ih: AnalogLinear
    weight_hh: AnalogLinear
    bias_n: Float[Array, " hidden"] | None
    layer: eqx.nn.GRUCell = eqx.field(static=True)

    def __call__(
        self,
        input: Float[Array, " inputs"],
        hidden: Float[Array, " hidden"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, " hidden"]:
        """One step, with the read noise of `key`: the new hidden state."""
        of_input, of_state = _products(self, input, hidden, key)
        ours, theirs = jnp.split(of_input, 3), jnp.split(of_state, 3)
        reset = jax.nn.sigmoid(ours[0] + theirs[0])
        share = jax.nn.sigmoid(ours[1] + theirs[1])
        new = theirs[2]
        if self.bias_n is not None:
            new = new + as_floats(self.bias_n, "bias").astype(new.dtype)
        new = jnp.tanh(ours[2] + reset * new)
        return new + share * (hidden - new)

    def digital(self) -> eqx.nn.GRUCell:
        """The digital cell with the weights that the arrays hold."""
        return _with(_filled(self), bias_n=self.bias_n)


_ANALOG_OF = {eqx.nn.LSTMCell: AnalogLSTMCell, eqx.nn.GRUCell: AnalogGRUCell}


def cell(layer: Any, matrices: Iterable[AnalogLinear]) -> AnalogLSTMCell | AnalogGRUCell:
    """The analog cell of matrices that are programmed already."""
    of_input, of_state = matrices
    own = {"bias_n": layer.bias_n} if isinstance(layer, eqx.nn.GRUCell) else {}
    kind: Any = next(to for base, to in _ANALOG_OF.items() if isinstance(layer, base))
    return kind(weight_ih=of_input, weight_hh=of_state, layer=emptied(layer), **own)


def matrices_of(layer: Any) -> tuple[eqx.nn.Linear, eqx.nn.Linear]:
    """The two matrices of a digital cell as layers; the bias is that of the input."""
    return _linear(layer.weight_ih, layer.bias), _linear(layer.weight_hh, None)


def _linear(
    weight: Float[Array, "outputs inputs"], bias: Float[Array, " outputs"] | None
) -> eqx.nn.Linear:
    outputs, inputs = weight.shape
    shell = eqx.filter_eval_shape(
        lambda: eqx.nn.Linear(inputs, outputs, use_bias=bias is not None, key=jr.key(0))
    )
    parts = ["weight"] if bias is None else ["weight", "bias"]
    return _with(shell, **dict(zip(parts, (weight, bias), strict=False)))


def _products(
    cell: AnalogLSTMCell | AnalogGRUCell, x: Array, h: Array, key: PRNGKeyArray | None
) -> tuple[Array, Array]:
    keys = (None, None) if key is None else tuple(jr.split(key))
    return cell.weight_ih(x, key=keys[0]), cell.weight_hh(h, key=keys[1])


def _filled(cell: AnalogLSTMCell | AnalogGRUCell) -> Any:
    of_input, of_state = cell.weight_ih.digital(), cell.weight_hh.digital()
    weights = dict(weight_ih=of_input.weight, weight_hh=of_state.weight)
    return _with(cell.layer, bias=of_input.bias, **weights)


def _with(layer: Any, **parts: Array | None) -> Any:
    """A layer with some of its arrays replaced."""
    parts = {name: part for name, part in parts.items() if part is not None}
    where = lambda layer: [getattr(layer, name) for name in parts]
    return eqx.tree_at(where, layer, list(parts.values()), is_leaf=lambda x: x is None)
