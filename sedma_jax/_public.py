"""The names of `sedma_jax`; the modules that need an extra are in `__init__.py`."""

from . import (
    costs as costs,
    devices as devices,
    kernels as kernels,
    meliso_compat as meliso_compat,
    noise_models as noise_models,
    study as study,
)
from ._compilation_cache import (
    enable_compilation_cache as enable_compilation_cache,
)
from ._crossbar.abstract_crossbar import AbstractCrossbar as AbstractCrossbar
from ._crossbar.bit_serial import (
    bit_planes as bit_planes,
    bit_serial_matvec as bit_serial_matvec,
)
from ._crossbar.calibration import (
    averaged_range as averaged_range,
    calibrated_adc as calibrated_adc,
    calibrated_dac as calibrated_dac,
    clip_rate as clip_rate,
    lossless_adc as lossless_adc,
)
from ._crossbar.converter_draws import draw_adc as draw_adc, draw_dac as draw_dac
from ._crossbar.converters import ADC as ADC, DAC as DAC
from ._crossbar.crossbar import (
    Crossbar as Crossbar,
    matvec as matvec,
    stored_matrix as stored_matrix,
)
from ._crossbar.effects import (
    age as age,
    compensate_drift as compensate_drift,
    fault_map as fault_map,
    inject_faults as inject_faults,
    perturb as perturb,
    retain as retain,
    with_conductance as with_conductance,
)
from ._crossbar.line_resistance import (
    with_approximate_line_resistance as with_approximate_line_resistance,
    with_line_resistance as with_line_resistance,
)
from ._crossbar.read_effects import (
    per_cell_noisy_matvec as per_cell_noisy_matvec,
    with_nonlinear_current as with_nonlinear_current,
    with_read_noise as with_read_noise,
)
from ._crossbar.separate_source import separate_source_matvec as separate_source_matvec
from ._crossbar.tables import (
    cell_columns as cell_columns,
    labelled_arrays as labelled_arrays,
)
from ._files.trees import load_tree as load_tree, save_tree as save_tree
from ._products.corrected import corrected_matvec as corrected_matvec
from ._products.correction import CorrectionInfo as CorrectionInfo, denoise as denoise
from ._products.streaming import (
    stream_corrected_matvec as stream_corrected_matvec,
    stream_matvec as stream_matvec,
)
from ._programming.bit_slicing import (
    program_bit_sliced as program_bit_sliced,
)
from ._programming.error_free import program_exactly as program_exactly
from ._programming.options import Programming as Programming
from ._programming.pooled import (
    Bank as Bank,
    PooledCrossbar as PooledCrossbar,
    program_pool as program_pool,
)
from ._programming.program import (
    program as program,
)
from ._programming.program_stats import ProgramStats as ProgramStats
from ._programming.residual import program_residual as program_residual
from ._programming.sharding import (
    matvec_sharded as matvec_sharded,
    program_sharded as program_sharded,
)
from ._run import Delivery as Delivery, RunResult as RunResult, run as run
from ._tiling.planning import plan_partitions as plan_partitions
from ._tiling.pool import (
    ArrayKind as ArrayKind,
    PartitionPlan as PartitionPlan,
    Pool as Pool,
    Rectangle as Rectangle,
    candidate_plans as candidate_plans,
)
from ._tiling.pool_file import load_pool as load_pool
from .kernels import (
    ConverterErrors as ConverterErrors,
    ConverterSpread as ConverterSpread,
    Device as Device,
    LambdaChoice as LambdaChoice,
    PipelineADC as PipelineADC,
    RampADC as RampADC,
    RememberedLambda as RememberedLambda,
    SarADC as SarADC,
    Scheme as Scheme,
    VerifyRule as VerifyRule,
    acceptance_band as acceptance_band,
    column_drift_compensation as column_drift_compensation,
    column_scale as column_scale,
    differential as differential,
    drift_compensation as drift_compensation,
    global_scale as global_scale,
    gradient_programming as gradient_programming,
    hadamard_verify as hadamard_verify,
    offset as offset,
    open_loop as open_loop,
    rewrite_and_verify as rewrite_and_verify,
    rewrite_law as rewrite_law,
    sampled_rewrite as sampled_rewrite,
    stagnation as stagnation,
    tile_scale as tile_scale,
    write_and_verify as write_and_verify,
)
