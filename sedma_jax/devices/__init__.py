"""Resistive memory technologies: published ones by name, and users' own.

`CATALOGUE` has every published technology with its source: those with pulses, which are a
`Device`, and those of which statistics were published, which are a `MeasuredArray`.
`PULSED` are those that can be programmed by pulses, `PRESETS` the four that MELISO+
simulates. `load` and `save` keep one's own in files; `fit`, `fit_programming`,
`fit_retention` and `fit_reads` find them from measurements.
"""

from .._dir import later_names

__dir__ = later_names(globals())

from ..kernels import Device as Device
from ._catalogue import CATALOGUE as CATALOGUE, Technology as Technology, named as named
from ._file import load as load, save as save
from ._fit import Fit as Fit, Quality as Quality, fit as fit
from ._fit_programming import (
    ProgrammingFit as ProgrammingFit,
    fit_programming as fit_programming,
)
from ._fit_reads import (
    ReadFit as ReadFit,
    fit_reads as fit_reads,
    simulate_reads as simulate_reads,
)
from ._fit_retention import (
    RetentionFit as RetentionFit,
    fit_retention as fit_retention,
)
from ._presets import (
    AG_ASI as AG_ASI,
    ALOX_HFO2 as ALOX_HFO2,
    EPIRAM as EPIRAM,
    PRESETS as PRESETS,
    TAOX_HFOX as TAOX_HFOX,
)
from ._pulsed import (
    HZO_FEFET as HZO_FEFET,
    LI_ECRAM as LI_ECRAM,
    PCMO as PCMO,
    PULSED as PULSED,
    TAOX_TIO2 as TAOX_TIO2,
    name_of as name_of,
)
