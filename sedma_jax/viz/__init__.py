"""Draw crossbars, devices, errors, costs and studies.

Every function takes arrays or records and returns a `matplotlib.figure.Figure` that belongs
to no window or global state: show it in a notebook, or call its `savefig`. The colours are
those of Okabe & Ito (2008) and of perceptually uniform maps, which colour-blind readers
can tell apart, also in print.
"""

from .._dir import later_names
from .._extras import require

require("viz", "matplotlib")
__dir__ = later_names(globals())

from ._cells import (
    conductance_map as conductance_map,
    ir_drop_map as ir_drop_map,
    programming_error_histogram as programming_error_histogram,
)
from ._devices import (
    drift_curves as drift_curves,
    pulse_fit as pulse_fit,
    pulse_response as pulse_response,
)
from ._placement import placement_map as placement_map
from ._products import (
    correction_errors as correction_errors,
    energy_breakdown as energy_breakdown,
    error_against_slices as error_against_slices,
)
from ._studies import (
    accuracy_over_time as accuracy_over_time,
    pareto_front as pareto_front,
)
