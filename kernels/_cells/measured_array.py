"""All published statistics of one measured array, together."""

import equinox as eqx

from .._numerics.requirements import check_kind
from .device import Device
from .drift import AbstractDrift
from .noise_models import AbstractReadNoise, ProgrammingNoise


class MeasuredArray(eqx.Module):
    """The published statistics of one array.

    - `device`: its conductance window. Properties that were not published are ideal.
    - `programming`, `drift`, `read`: for `perturb`, `age` and `with_read_noise`; None if
        nothing was published, or if `programming` covers it.
    """

    device: Device
    programming: ProgrammingNoise
    drift: AbstractDrift | None = None
    read: AbstractReadNoise | None = None

    def __check_init__(self):
        for name, kind in _STATISTICS.items():
            value = getattr(self, name)
            if value is None and name in ("drift", "read"):
                continue
            check_kind(
                "sedma_jax.noise_models.MeasuredArray",
                kind,
                f"of kind `{kind.__name__}`",
                "`sedma_jax.noise_models.PCM` is an example.",
                **{name: value},
            )


_STATISTICS = {
    "device": Device,
    "programming": ProgrammingNoise,
    "drift": AbstractDrift,
    "read": AbstractReadNoise,
}
