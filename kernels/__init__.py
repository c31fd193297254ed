"""Pure numerical kernels: functions of arrays, one crossbar and one vector at a time."""

from ._cells.cell_current import (
    CubicCurrent as CubicCurrent,
    coefficients_through as coefficients_through,
    current_coefficients as current_coefficients,
)
from ._cells.device import (
    Device as Device,
    series_conductance as series_conductance,
)
from ._cells.drift import (
    AbstractDrift as AbstractDrift,
    LogarithmicDrift as LogarithmicDrift,
    PowerLawDrift as PowerLawDrift,
    drift as drift,
)
from ._cells.faults import apply_faults as apply_faults, draw_faults as draw_faults
from ._cells.mapping import (
    column_scale as column_scale,
    differential as differential,
    global_scale as global_scale,
    offset as offset,
    signed_weights as signed_weights,
    tile_scale as tile_scale,
)
from ._cells.measured_array import MeasuredArray as MeasuredArray
from ._cells.noise_curves import (
    AbstractCurve as AbstractCurve,
    LogarithmicCurve as LogarithmicCurve,
    PiecewiseCurve as PiecewiseCurve,
    PolynomialCurve as PolynomialCurve,
    PowerCurve as PowerCurve,
    SaturatingCurve as SaturatingCurve,
)
from ._cells.noise_models import (
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
from ._cells.pulse import (
    Response as Response,
    apply_pulses as apply_pulses,
    draw_response as draw_response,
    move_state as move_state,
    nominal_response as nominal_response,
)
from ._cells.pulse_curve import (
    AbstractPulseCurve as AbstractPulseCurve,
    ExponentialCurve as ExponentialCurve,
    SoftBoundCurve as SoftBoundCurve,
    TabulatedCurve as TabulatedCurve,
)
from ._cells.relaxation import (
    DriftInTurn as DriftInTurn,
    ExponentialRelaxation as ExponentialRelaxation,
    LogarithmicRelaxation as LogarithmicRelaxation,
)
from ._cells.telegraph import (
    TelegraphNoise as TelegraphNoise,
    TrapGroup as TrapGroup,
    Traps as Traps,
    draw_traps as draw_traps,
    telegraph_state as telegraph_state,
)
from ._cells.weights import (
    visible_weights as visible_weights,
    weight_per_siemens as weight_per_siemens,
)
from ._correction.denoise import denoise as denoise
from ._correction.first_order import (
    correct_first_order as correct_first_order,
    first_order_inputs as first_order_inputs,
    product_noise as product_noise,
)
from ._correction.lambda_memory import (
    ERROR_PATTERNS as ERROR_PATTERNS,
    LambdaChoice as LambdaChoice,
    RememberedLambda as RememberedLambda,
    combine_lambda as combine_lambda,
)
from ._correction.recent_products import (
    ProductStatistics as ProductStatistics,
    RecentProducts as RecentProducts,
    append_product as append_product,
    recent_products as recent_products,
)
from ._correction.smoothing import (
    roughness_spectrum as roughness_spectrum,
    stein_lambda as stein_lambda,
)
from ._costs.cost_model import (
    AdcCost as AdcCost,
    ArrayGeometry as ArrayGeometry,
    CostModel as CostModel,
    DacCost as DacCost,
    DigitalCost as DigitalCost,
    DriverCost as DriverCost,
    ProcessorCost as ProcessorCost,
)
from ._costs.mvm_cost import (
    MvmCost as MvmCost,
    MvmWorkload as MvmWorkload,
    array_read_energy as array_read_energy,
    expected_read_energy as expected_read_energy,
    mvm_cost as mvm_cost,
)
from ._costs.partition_cost import (
    CELL_BYTES as CELL_BYTES,
    Partitions as Partitions,
    PlanCost as PlanCost,
    memory_price as memory_price,
    partition_seconds as partition_seconds,
    plan_costs as plan_costs,
)
from ._learning.exploration import (
    ChangeDetector as ChangeDetector,
    change_detector as change_detector,
    detect_change as detect_change,
    thompson_sample as thompson_sample,
    update_beliefs as update_beliefs,
)
from ._learning.nearest import nearest_rows as nearest_rows
from ._learning.ring_buffer import (
    RingBuffer as RingBuffer,
    Summary as Summary,
    append_sample as append_sample,
    quantiles as quantiles,
    ring_buffer as ring_buffer,
    summarise as summarise,
)
from ._numerics.cipher import split_in_two as split_in_two
from ._numerics.count import (
    Count as Count,
    add_counts as add_counts,
    as_count as as_count,
    fold_in_count as fold_in_count,
    multiply_count as multiply_count,
    total_count as total_count,
)
from ._numerics.norms import (
    power_of_two as power_of_two,
    relative_size as relative_size,
    safe_norm as safe_norm,
)
from ._numerics.random import (
    normal as normal,
    normal_pair as normal_pair,
    normal_pair_at as normal_pair_at,
)
from ._numerics.requirements import (
    FINITE as FINITE,
    FROM_ONE as FROM_ONE,
    FROM_ZERO as FROM_ZERO,
    NUMBER as NUMBER,
    ONE_OR_MORE as ONE_OR_MORE,
    POSITIVE as POSITIVE,
    SHARE as SHARE,
    Requirement as Requirement,
    check_callable as check_callable,
    check_counts as check_counts,
    check_given as check_given,
    check_kind as check_kind,
    check_numbers as check_numbers,
    known_numbers as known_numbers,
    one_of as one_of,
    shown as shown,
    whole as whole,
)
from ._numerics.wide_vectors import wide_jit as wide_jit
from ._peers.cache_utility import (
    cache_utility as cache_utility,
    worth_keeping as worth_keeping,
)
from ._peers.peer_choice import (
    TransferModel as TransferModel,
    peer_scores as peer_scores,
    peer_terms as peer_terms,
    select_peers as select_peers,
    transfer_log_likelihood as transfer_log_likelihood,
)
from ._peers.peer_network import (
    PeerNetwork as PeerNetwork,
    initial_network_state as initial_network_state,
    simulate_network as simulate_network,
)
from ._peers.ranking import (
    rank_at_random as rank_at_random,
    rank_by_distance as rank_by_distance,
    rank_by_score as rank_by_score,
)
from ._peers.transfer_times import (
    fit_log_normal as fit_log_normal,
    fit_shared_log_normal as fit_shared_log_normal,
)
from ._placement.annealing import (
    Schedule as Schedule,
    anneal as anneal,
)
from ._placement.placement import (
    PlacementCost as PlacementCost,
    PlacementProblem as PlacementProblem,
    node_loads as node_loads,
    placement_cost as placement_cost,
)
from ._programming.closed_loop import (
    VerifyRule as VerifyRule,
    WriteStats as WriteStats,
    acceptance_band as acceptance_band,
    cell_conductance as cell_conductance,
    gaussian as gaussian,
    hidden_state as hidden_state,
    stagnation as stagnation,
    visible_state as visible_state,
)
from ._programming.gradient_programming import gradient_programming as gradient_programming
from ._programming.hadamard_verify import (
    hadamard_verify as hadamard_verify,
)
from ._programming.open_loop import open_loop as open_loop
from ._programming.pulsed_update import (
    accumulated_pulses as accumulated_pulses,
    pulsed_change as pulsed_change,
    pulsed_train as pulsed_train,
    state_weight as state_weight,
    symmetry_point as symmetry_point,
    weight_state as weight_state,
)
from ._programming.rewrite import (
    rewrite_and_verify as rewrite_and_verify,
    sampled_rewrite as sampled_rewrite,
)
from ._programming.scheme import Scheme as Scheme, as_scheme as as_scheme
from ._programming.write_verify import (
    write_and_verify as write_and_verify,
)
from ._reading.conversion import (
    converter_steps as converter_steps,
    digitise as digitise,
    largest_code as largest_code,
)
from ._reading.converter_errors import (
    ConverterErrors as ConverterErrors,
    convert_lines as convert_lines,
    distort as distort,
)
from ._reading.converter_spread import (
    AbstractConverterSpread as AbstractConverterSpread,
    ConverterSpread as ConverterSpread,
    PipelineADC as PipelineADC,
    RampADC as RampADC,
    SarADC as SarADC,
    draw_levels as draw_levels,
)
from ._reading.drift_compensation import (
    column_drift_compensation as column_drift_compensation,
    drift_compensation as drift_compensation,
)
from ._reading.line_resistance import (
    NodalSolution as NodalSolution,
    effective_conductances as effective_conductances,
    solve_nodes as solve_nodes,
    transfer_matrix as transfer_matrix,
)
from ._reading.line_topologies import (
    interleaved_transfer as interleaved_transfer,
    separate_source_conductances as separate_source_conductances,
)
from ._reading.patches import image_patches as image_patches
from ._reading.read import (
    batched_matvec as batched_matvec,
    read_strips as read_strips,
    strip_currents as strip_currents,
)
from ._reading.read_moments import read_moments as read_moments
from ._reading.searches import (
    AbstractSearch as AbstractSearch,
    PipelineSearch as PipelineSearch,
    SarSearch as SarSearch,
    TransitionSearch as TransitionSearch,
)
from ._reading.straight_through import (
    clip_columns as clip_columns,
    digitise_learned as digitise_learned,
    digitise_straight_through as digitise_straight_through,
    straight_codes as straight_codes,
)
from ._reading.strips import (
    Strips as Strips,
    strips_from_tiles as strips_from_tiles,
    tiles_from_strips as tiles_from_strips,
)
from ._reading.tiling import (
    cut_tiles as cut_tiles,
    grid_shape as grid_shape,
    join_outputs as join_outputs,
    join_tiles as join_tiles,
    split_inputs as split_inputs,
)

rewrite_law = sampled_rewrite
"""The former name of `sampled_rewrite`."""


def __dir__():
    return sorted(name for name in globals() if not name.startswith("_"))
