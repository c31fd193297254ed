"""Simulate RRAM in-memory computing in JAX."""

from importlib.metadata import version

from . import devices as devices
from ._corrected import (
    CorrectionInfo as CorrectionInfo,
)
from ._corrected import (
    corrected_matvec as corrected_matvec,
)
from ._corrected import (
    denoise as denoise,
)
from ._crossbar import (
    ADC as ADC,
)
from ._crossbar import (
    DAC as DAC,
)
from ._crossbar import (
    Crossbar as Crossbar,
)
from ._crossbar import (
    ProgramStats as ProgramStats,
)
from ._crossbar import (
    matvec as matvec,
)
from ._crossbar import (
    program as program,
)
from ._crossbar import (
    stored_matrix as stored_matrix,
)
from .kernels import (
    Device as Device,
)
from .kernels import (
    VerifyRule as VerifyRule,
)
from .kernels import (
    acceptance_band as acceptance_band,
)
from .kernels import (
    column_scale as column_scale,
)
from .kernels import (
    differential as differential,
)
from .kernels import (
    global_scale as global_scale,
)
from .kernels import (
    offset as offset,
)
from .kernels import (
    stagnation as stagnation,
)
from .kernels import (
    tile_scale as tile_scale,
)

__version__ = version("sedma-jax")
