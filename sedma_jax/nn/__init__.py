"""Turn the layers of a network analog, and train against the noise."""

from ._hardware_aware import (
    Hardware as Hardware,
    HardwareAwareConv as HardwareAwareConv,
    HardwareAwareLinear as HardwareAwareLinear,
    draw_programming as draw_programming,
    hardware_aware as hardware_aware,
    plain as plain,
)
from ._in_situ import (
    PulsedState as PulsedState,
    TikiTakaState as TikiTakaState,
    pulsed_updates as pulsed_updates,
    tiki_taka as tiki_taka,
)
