"""Pure numerical kernels: functions of arrays, one crossbar and one vector at a time."""

from ._cell_current import (
    CubicCurrent as CubicCurrent,
    coefficients_through as coefficients_through,
    current_coefficients as current_coefficients,
    nonlinear_current as nonlinear_current,
)
from ._closed_loop import (
    VerifyRule as VerifyRule,
    WriteStats as WriteStats,
    acceptance_band as acceptance_band,
    cell_conductance as cell_conductance,
    gaussian as gaussian,
    hidden_state as hidden_state,
    read_energy as read_energy,
    stagnation as stagnation,
    visible_state as visible_state,
)
from ._conversion import digitise as digitise
from ._correction import (
    correct_first_order as correct_first_order,
    denoise as denoise,
)
from ._cost import (
    MvmCost as MvmCost,
    Workload as Workload,
    array_read_energy as array_read_energy,
    expected_read_energy as expected_read_energy,
    mvm_cost as mvm_cost,
    settling_time as settling_time,
)
from ._cost_model import (
    AdcCost as AdcCost,
    ArrayGeometry as ArrayGeometry,
    CostModel as CostModel,
    DacCost as DacCost,
    DigitalCost as DigitalCost,
    DriverCost as DriverCost,
)
from ._device import (
    Device as Device,
    curvature as curvature,
    series_conductance as series_conductance,
)
from ._drift import (
    AbstractDrift as AbstractDrift,
    LogarithmicDrift as LogarithmicDrift,
    PowerLawDrift as PowerLawDrift,
    drift as drift,
    drift_exponents as drift_exponents,
)
from ._drift_compensation import (
    column_drift_compensation as column_drift_compensation,
    drift_compensation as drift_compensation,
)
from ._faults import apply_faults as apply_faults, draw_faults as draw_faults
from ._gradient_programming import gradient_programming as gradient_programming
from ._hadamard_verify import (
    hadamard_matrix as hadamard_matrix,
    hadamard_read as hadamard_read,
    hadamard_verify as hadamard_verify,
)
from ._line_resistance import (
    NodalSolution as NodalSolution,
    effective_conductances as effective_conductances,
    solve_nodes as solve_nodes,
    transfer_matrix as transfer_matrix,
)
from ._mapping import (
    column_scale as column_scale,
    differential as differential,
    global_scale as global_scale,
    offset as offset,
    signed_weights as signed_weights,
    tile_scale as tile_scale,
)
from ._noise_curves import (
    AbstractCurve as AbstractCurve,
    LogarithmicCurve as LogarithmicCurve,
    PiecewiseCurve as PiecewiseCurve,
    PolynomialCurve as PolynomialCurve,
    PowerCurve as PowerCurve,
    SaturatingCurve as SaturatingCurve,
)
from ._noise_models import (
    AbsoluteFlickerNoise as AbsoluteFlickerNoise,
    AbstractReadNoise as AbstractReadNoise,
    ProgrammingNoise as ProgrammingNoise,
    RelativeFlickerNoise as RelativeFlickerNoise,
    RetentionTable as RetentionTable,
    StationaryReadNoise as StationaryReadNoise,
    program_noise as program_noise,
    read_noise as read_noise,
    sample_retention as sample_retention,
    standard_uniform as standard_uniform,
)
from ._open_loop import open_loop as open_loop
from ._pulse import (
    Response as Response,
    apply_pulses as apply_pulses,
    draw_response as draw_response,
    move_state as move_state,
    nominal_response as nominal_response,
    response_curve as response_curve,
    response_inverse as response_inverse,
)
from ._random import (
    bits as bits,
    normal as normal,
    normal_at as normal_at,
    normal_pair as normal_pair,
    truncated_normal as truncated_normal,
    uniform as uniform,
)
from ._read import (
    accumulate as accumulate,
    higher_order_currents as higher_order_currents,
    read_tile as read_tile,
    read_tiles as read_tiles,
)
from ._read_moments import read_moments as read_moments
from ._tiling import (
    grid_shape as grid_shape,
    join_outputs as join_outputs,
    split_inputs as split_inputs,
    tile as tile,
    untile as untile,
)
from ._weights import (
    visible_weights as visible_weights,
    weight_per_siemens as weight_per_siemens,
)
from ._write_verify import (
    write_and_verify as write_and_verify,
    write_and_verify_arrays as write_and_verify_arrays,
)
