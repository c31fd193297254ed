"""Simulate RRAM in-memory computing in JAX."""

from importlib.metadata import version

from . import costs as costs, devices as devices, meliso_compat as meliso_compat
from ._compilation_cache import (
    enable_compilation_cache as enable_compilation_cache,
)
from ._corrected import (
    CorrectionInfo as CorrectionInfo,
    corrected_matvec as corrected_matvec,
    denoise as denoise,
)
from ._crossbar import (
    ADC as ADC,
    DAC as DAC,
    Crossbar as Crossbar,
    matvec as matvec,
    program as program,
    stored_matrix as stored_matrix,
)
from ._program_stats import ProgramStats as ProgramStats
from ._residual import program_residual as program_residual
from ._sharding import (
    matvec_sharded as matvec_sharded,
    program_sharded as program_sharded,
)
from ._streaming import (
    stream_corrected_matvec as stream_corrected_matvec,
    stream_matvec as stream_matvec,
)
from .kernels import (
    Device as Device,
    VerifyRule as VerifyRule,
    acceptance_band as acceptance_band,
    column_scale as column_scale,
    differential as differential,
    global_scale as global_scale,
    gradient_programming as gradient_programming,
    hadamard_verify as hadamard_verify,
    offset as offset,
    open_loop as open_loop,
    stagnation as stagnation,
    tile_scale as tile_scale,
    write_and_verify as write_and_verify,
)

__version__ = version("sedma-jax")
