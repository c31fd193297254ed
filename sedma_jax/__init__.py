"""Simulate RRAM in-memory computing in JAX."""

from importlib.metadata import version

from . import costs as costs, devices as devices, meliso_compat as meliso_compat
from ._converters import ADC as ADC, DAC as DAC
from ._corrected import (
    CorrectionInfo as CorrectionInfo,
    corrected_matvec as corrected_matvec,
    denoise as denoise,
)
from ._crossbar import (
    Crossbar as Crossbar,
    ProgramStats as ProgramStats,
    matvec as matvec,
    program as program,
    stored_matrix as stored_matrix,
)
from .kernels import (
    Device as Device,
    VerifyRule as VerifyRule,
    acceptance_band as acceptance_band,
    column_scale as column_scale,
    differential as differential,
    global_scale as global_scale,
    offset as offset,
    stagnation as stagnation,
    tile_scale as tile_scale,
)

__version__ = version("sedma-jax")
