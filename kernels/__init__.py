"""Pure numerical kernels: functions of arrays, one crossbar and one vector at a time."""

from ._conversion import digitise as digitise
from ._correction import (
    correct_first_order as correct_first_order,
)
from ._correction import (
    denoise as denoise,
)
from ._device import (
    Device as Device,
)
from ._device import (
    curvature as curvature,
)
from ._device import (
    series_conductance as series_conductance,
)
from ._mapping import (
    column_scale as column_scale,
)
from ._mapping import (
    differential as differential,
)
from ._mapping import (
    global_scale as global_scale,
)
from ._mapping import (
    offset as offset,
)
from ._mapping import (
    signed_weights as signed_weights,
)
from ._mapping import (
    tile_scale as tile_scale,
)
from ._pulse import (
    Response as Response,
)
from ._pulse import (
    apply_pulses as apply_pulses,
)
from ._pulse import (
    draw_response as draw_response,
)
from ._pulse import (
    move_state as move_state,
)
from ._pulse import (
    nominal_response as nominal_response,
)
from ._pulse import (
    response_curve as response_curve,
)
from ._pulse import (
    response_inverse as response_inverse,
)
from ._random import (
    bits as bits,
    normal as normal,
    normal_pair as normal_pair,
    truncated_normal as truncated_normal,
    uniform as uniform,
)
from ._read import (
    accumulate as accumulate,
)
from ._read import (
    read_tile as read_tile,
)
from ._read import (
    read_tiles as read_tiles,
)
from ._tiling import (
    grid_shape as grid_shape,
)
from ._tiling import (
    join_outputs as join_outputs,
)
from ._tiling import (
    split_inputs as split_inputs,
)
from ._tiling import (
    tile as tile,
)
from ._tiling import (
    untile as untile,
)
from ._write_verify import (
    VerifyRule as VerifyRule,
)
from ._write_verify import (
    WriteStats as WriteStats,
)
from ._write_verify import (
    acceptance_band as acceptance_band,
)
from ._write_verify import (
    cell_conductance as cell_conductance,
)
from ._write_verify import (
    gaussian as gaussian,
)
from ._write_verify import (
    hidden_state as hidden_state,
)
from ._write_verify import (
    stagnation as stagnation,
)
from ._write_verify import (
    visible_state as visible_state,
)
from ._write_verify import (
    write_and_verify as write_and_verify,
)
