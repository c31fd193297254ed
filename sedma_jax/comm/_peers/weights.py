"""Learn the weights of availability, latency and free memory (SEDMA, Eq. 8 and 9)."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from ..._extras import install_hint
from ...kernels import TransferModel, transfer_log_likelihood

try:
    import optax
except ImportError as error:
    raise ImportError(
        f"`sedma_jax.comm` needs optax, which is not installed. {install_hint('comm')}"
    ) from error

LEARNING_RATE = 0.01  # eta of Eq. 8
LARGEST_WEIGHT = 100.0  # one unit of a term then decides every choice
FIRST_WEIGHTS = (1.0, 1.0, 1.0)
STEPS = 25  # of the optimiser per batch of outcomes
PULL = 0.001  # weight decay: nats per attempt and unit, at a weight of 1

_fit = eqx.filter_jit(transfer_log_likelihood)
# One object, so that all learners that use it share the compiled step.
_OPTIMISER = optax.chain(optax.add_decayed_weights(PULL), optax.adam(LEARNING_RATE))


class WeightLearner:
    """Weights fitted to the last hundred transfers.

    An optax optimiser climbs the log-likelihood of the recorded outcomes,
    `w <- w + eta d(success)/dw`. Weights are kept within 0 and 100: a negative weight would
    prefer a peer for being slow. A step that is not finite is not taken.

    **Arguments:**

    - `optimiser`: any `optax.GradientTransformation`; `optax.sgd(0.01)` is Eq. 8 to the
        letter. The default is `optax.adam(0.01)` with a normal prior on the weights. Adam
        scales its step by its own gradient, so that it follows a change without being tuned
        to the traffic. Without the prior, a term that separates all failures would get a
        weight that takes long to unlearn.
    - `window`: number of transfers that are remembered.

    **Example:**

        >>> learner = sj.comm.WeightLearner()
        >>> terms = np.array([0.0, 1.0, 0.0], np.float32)  # availability, latency, memory
        >>> for _ in range(10):
        ...     learner.record(terms, completed=1, attempted=1)
        >>> learner.learn()
        >>> bool(learner.model.weights[1] > 1)  # short latencies went well: it rises from 1
        True
    """

    def __init__(
        self, optimiser: optax.GradientTransformation | None = None, window: int = 100
    ):
        self._optimiser = optimiser or _OPTIMISER
        self.model = TransferModel(
            jnp.asarray(np.asarray(FIRST_WEIGHTS, np.float32)), jnp.asarray(np.float32(0))
        )
        self._state = self._optimiser.init(eqx.filter(self.model, eqx.is_array))
        self._terms = np.zeros((window, 3), np.float32)
        self._outcomes = np.zeros((2, window), np.float32)
        self._count = 0
        self.lessons = 0  # number of calls of `learn`

    def record(self, terms: np.ndarray, completed: float, attempted: float) -> None:
        """Remember a transfer of which `completed` of `attempted` parts arrived.

        **Arguments:** `terms`: those of Eq. 7 of its peer: idle fraction, 1 / ms, GB.

        **Raises:** `ValueError` for terms that are not finite, and counts that cannot be.
        """
        if not (np.isfinite(terms).all() and 0 <= completed <= attempted < np.inf):
            raise ValueError(
                "`WeightLearner.record` needs finite terms and 0 <= completed <= "
                f"attempted. Got {terms}, {completed} of {attempted}. Count parts, not "
                "bytes."
            )
        at = self._count % len(self._terms)
        self._terms[at] = terms
        self._outcomes[:, at] = completed, attempted
        self._count += 1

    def learn(self) -> None:
        """Fit the weights to the transfers that are remembered."""
        self.model, self._state = self._followed()
        self.lessons += 1

    def fit(self) -> float:
        """Mean log-likelihood of the remembered transfers, in nats per attempt."""
        completed, attempted = jnp.asarray(self._outcomes)
        return float(_fit(self.model, jnp.asarray(self._terms), completed, attempted))

    def resume(self, weights: Sequence[float], bias: float) -> None:
        """Start from weights learnt earlier; `ValueError` for impossible ones."""
        given = np.asarray([*weights, bias], np.float32)
        inside = (given[:-1] >= 0) & (given[:-1] <= LARGEST_WEIGHT)
        if given.shape != (4,) or not (inside.all() and np.isfinite(given).all()):
            raise ValueError(
                f"`WeightLearner.resume` needs three weights from 0 to {LARGEST_WEIGHT:g} "
                f"and a finite bias. Got {given}. Start without them."
            )
        self.model = TransferModel(jnp.asarray(given[:3]), jnp.asarray(given[3]))

    def compile(self) -> None:
        """Compile the learning step in advance."""
        self._followed()

    def _followed(self) -> tuple[TransferModel, Any]:
        # optax multiplies its step count by Python floats.
        with jax.numpy_dtype_promotion("standard"):
            return _steps(
                self._optimiser, self.model, self._state, self._terms, *self._outcomes
            )


@eqx.filter_jit
def _steps(
    optimiser: optax.GradientTransformation,
    model: TransferModel,
    state: Any,
    terms: Float[ArrayLike, "window 3"],
    completed: Float[ArrayLike, " window"],
    attempted: Float[ArrayLike, " window"],
) -> tuple[TransferModel, Any]:
    def step(_: Any, carry: tuple[Any, Any]):
        model, state = carry
        gradient = jax.grad(transfer_log_likelihood)(model, terms, completed, attempted)
        # Optimisers descend.
        ascent = jax.tree.map(jnp.negative, gradient)
        updates, new_state = optimiser.update(ascent, state, model)
        new = eqx.apply_updates(model, updates)
        new = TransferModel(jnp.clip(new.weights, 0, LARGEST_WEIGHT), new.bias)
        finite = jnp.isfinite(new.weights).all() & jnp.isfinite(new.bias)
        keep = lambda a, b: jnp.where(finite, a, b)
        return jax.tree.map(keep, (new, new_state), (model, state))

    return jax.lax.fori_loop(0, STEPS, step, (model, state))
