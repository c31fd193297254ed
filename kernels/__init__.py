"""Pure numerical kernels: functions of arrays, one crossbar and one vector at a time."""

from ._device import (
    Device as Device,
    curvature as curvature,
    series_conductance as series_conductance,
)
from ._line_resistance import (
    NodalSolution as NodalSolution,
    effective_conductances as effective_conductances,
    solve_nodes as solve_nodes,
    transfer_matrix as transfer_matrix,
)
from ._pulse import (
    Response as Response,
    apply_pulses as apply_pulses,
    draw_response as draw_response,
    nominal_response as nominal_response,
    response_curve as response_curve,
    response_inverse as response_inverse,
)
