"""Relaxation after programming, and several models of retention in a row.

Cells that were just written change quickly, then ever more slowly: Wan et al. (2022, Nature
608, 504, Extended Data Fig. 3d) see a relaxation at first that is faster than the later
loss. Both forms of `h` below are descriptions, not a law of that paper. The change is a
share of the conductance, `g(t) = g (1 + c h(t))`, with one `c` per cell, normal over the
cells.
"""

import abc
import dataclasses

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._numerics.requirements import (
    FINITE,
    FROM_ZERO,
    POSITIVE,
    check_kind,
    check_numbers,
)
from .device import Scalar
from .drift import AbstractDrift


class _Relaxation(AbstractDrift):
    """`g (1 + c h(t))`, with the `h` of each kind."""

    mean: Scalar
    deviation: Scalar

    def __check_init__(self):
        call = f"sedma_jax.kernels.{type(self).__name__}"
        share, time = "It is a share of the conductance.", "It is a time, in seconds."
        check_numbers(call, FINITE, share, mean=self.mean)
        check_numbers(call, FROM_ZERO, share, deviation=self.deviation)
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)[2:]}
        check_numbers(call, POSITIVE, time, **own)

    @abc.abstractmethod
    def growth(self, time: Float[Array, ""]) -> Float[Array, ""]:
        """The function `h`."""

    def drifted(
        self,
        g: Float[Array, " *cells"],
        time: Float[Array, ""],
        g_target: Float[Array, " *cells"],
        key: PRNGKeyArray,
    ) -> Float[Array, " *cells"]:
        del g_target
        share = self.mean + self.deviation * jr.normal(key, g.shape, g.dtype)
        return jnp.maximum(g * (1 + share * self.growth(time)), 0)


class LogarithmicRelaxation(_Relaxation):
    """`h(t) = log(1 + t / t_0)`: the same change in every decade after `t_0`.

    - `mean`, `deviation`: of `c` over the cells, a share per e-fold of time.
    - `t_0`: in seconds.

    **Example:**

        >>> model = sj.kernels.LogarithmicRelaxation(-0.01, 0.0, t_0=1.0)
        >>> g = sj.kernels.drift(model, jnp.ones(1), np.e - 1, key=jr.key(0))
        >>> round(float(g[0]), 4)
        0.99
    """

    t_0: Scalar

    def growth(self, time: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.log1p(time / self.t_0)


class ExponentialRelaxation(_Relaxation):
    """`h(t) = 1 - exp(-t / tau)`: a change that ends.

    - `mean`, `deviation`: of `c` over the cells, the share in the end.
    - `tau`: in seconds.

    **Example:**

        >>> model = sj.kernels.ExponentialRelaxation(-0.1, 0.0, tau=1.0)
        >>> g = sj.kernels.drift(model, jnp.ones(1), 1000.0, key=jr.key(0))
        >>> round(float(g[0]), 4)
        0.9
    """

    tau: Scalar

    def growth(self, time: Float[Array, ""]) -> Float[Array, ""]:
        return -jnp.expm1(-time / self.tau)


class DriftInTurn(AbstractDrift):
    """Several models of retention, each after the one before, with keys of their own.

    - `models`: at least one, such as a relaxation and a `TelegraphNoise`.

    **Example:**

        >>> slow = sj.kernels.ExponentialRelaxation(-0.1, 0.0, tau=1.0)
        >>> model = sj.kernels.DriftInTurn((slow, slow))
        >>> g = sj.kernels.drift(model, jnp.ones(1), 1000.0, key=jr.key(0))
        >>> round(float(g[0]), 4)
        0.81
    """

    models: tuple[AbstractDrift, ...] = eqx.field(converter=tuple)

    def __check_init__(self):
        call = "sedma_jax.kernels.DriftInTurn"
        if not self.models:
            raise ValueError(
                f"`{call}` needs `models` to hold at least one. Got none. Use no drift."
            )
        for model in self.models:
            remedy = "Such as `sedma_jax.kernels.TelegraphNoise`."
            check_kind(call, AbstractDrift, "models of drift", remedy, models=model)

    def drifted(
        self,
        g: Float[Array, " *cells"],
        time: Float[Array, ""],
        g_target: Float[Array, " *cells"],
        key: PRNGKeyArray,
    ) -> Float[Array, " *cells"]:
        for number, model in enumerate(self.models):
            g = model.drifted(g, time, g_target, jr.fold_in(key, number))
        return g
