"""What Tiki-Taka with a digital buffer, with choppers, and AGAD keep between updates."""

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ...kernels import Count, Response


class FastArray(eqx.Module):
    """Array A of one leaf, and what the digital side keeps of it.

    - `state`, `response`: of its cells.
    - `reference`: weights that reads are compared with.
    - `recent`: average of recent reads; None where the reference is programmed.
    - `buffer`: H, the changes of weights that C has not got yet.
    - `signs`: by which the updates of each column are multiplied, +1 or -1.

    **Example:**

        >>> how = dict(w_max=0.5, transfer_every=1, transfer_rate=0.1)
        >>> optimiser = sj.nn.tiki_taka_v2("epiram", **how, key=jr.key(0))
        >>> fast = optimiser.init(jnp.zeros((3, 2))).fast
        >>> fast.buffer.shape, fast.signs.shape, fast.recent
        ((3, 2), (2,), None)
    """

    state: Float[Array, "rows cols"]
    response: Response
    reference: Float[Array, "rows cols"]
    recent: Float[Array, "rows cols"] | None
    buffer: Float[Array, "rows cols"]
    signs: Float[Array, " cols"]


class BufferedTikiTakaState(eqx.Module):
    """State of `tiki_taka_v2`, `chopped_tiki_taka` and `agad`.

    - `key`, `energy`, `fast_pulses`, `slow_pulses`, `count`: as in `TikiTakaState`.
    - `fast`: array A of each leaf, a `FastArray`. The cells of C hold the parameters.
    - `slow_response`: responses of the cells of C.

    **Example:**

        >>> how = dict(w_max=0.5, transfer_every=2, transfer_rate=0.1)
        >>> optimiser = sj.nn.tiki_taka_v2("epiram", **how, key=jr.key(0))
        >>> weights, change = jnp.zeros((3, 2)), jnp.full((3, 2), 0.01)
        >>> _, state = optimiser.update(change, optimiser.init(weights), weights)
        >>> int(state.count), state.fast.state.shape, float(state.energy) > 0
        (1, (3, 2), True)
    """

    key: PRNGKeyArray
    fast: PyTree[FastArray]
    slow_response: PyTree[Response]
    fast_pulses: PyTree[Count]
    slow_pulses: PyTree[Count]
    energy: Float[Array, ""]
    count: Int[Array, ""]
