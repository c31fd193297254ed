"""Program by the published statistics of an array, without a technology and its pulses."""

from jaxtyping import Array, Float, PRNGKeyArray

from .._crossbar.crossbar import Crossbar
from .._crossbar.effects import perturb
from .._crossbar.read_effects import with_read_noise
from .._programming.error_free import exact_partition
from .._programming.options import Mapping, Scaling
from .._tiling.partition import Partition
from ..noise_models import MeasuredArray


def program_by_statistics(
    parts: Partition,
    measured: MeasuredArray,
    *,
    mapping: Mapping,
    scaling: Scaling,
    key: PRNGKeyArray,
) -> tuple[Crossbar, Float[Array, "tiles polarity rows cols"]]:
    """Tiles as such an array would hold them, and the target conductances, in siemens."""
    exact = exact_partition(parts, measured.device, mapping=mapping, scaling=scaling)
    programmed = perturb(exact, measured.programming, key=key)
    if measured.read is not None:
        programmed = with_read_noise(programmed, measured.read)
    return programmed, exact.conductance
