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

    **Example:**

        >>> pcm = sj.noise_models.PCM
        >>> crossbar = sj.program_exactly(np.eye(4), pcm.device, array=4)
        >>> crossbar = sj.perturb(crossbar, pcm.programming, key=jr.key(0))
        >>> crossbar = sj.age(crossbar, pcm.drift, 3600.0, key=jr.key(1))
        >>> bool(sj.stored_matrix(crossbar)[0, 0] < 1)  # an hour of drift
        True
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
