"""Turn the layers of a network analog, look into them, and train against the noise."""

from importlib import import_module

from ._attention import AnalogAttention as AnalogAttention
from ._convert import (
    analogize as analogize,
    digitize as digitize,
    with_read_keys as with_read_keys,
)
from ._embedding import AnalogEmbedding as AnalogEmbedding
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
from ._inspect import (
    LayerFigures as LayerFigures,
    NetworkFigures as NetworkFigures,
    inspect as inspect,
)
from ._layers import AnalogConv as AnalogConv, AnalogLinear as AnalogLinear
from ._matrix import (
    AnalogMatrix as AnalogMatrix,
    analog_conv as analog_conv,
    analog_linear as analog_linear,
    multiply as multiply,
    program_matrix as program_matrix,
)
from ._over_time import age as age


def __getattr__(name: str):
    # An extra of its own: who has no flax can use the rest.
    if name == "flax":
        return import_module("._flax", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
