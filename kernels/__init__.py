"""Pure numerical kernels: functions of arrays, one crossbar and one vector at a time."""

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
from ._pulse import (
    Response as Response,
    apply_pulses as apply_pulses,
    draw_response as draw_response,
    nominal_response as nominal_response,
    response_curve as response_curve,
    response_inverse as response_inverse,
)
