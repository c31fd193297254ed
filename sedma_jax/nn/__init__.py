"""Turn the layers of a network analog, look into them, and train against the noise."""

import typing as _typing
from importlib import import_module as _import_module

from ._attention import AnalogAttention as AnalogAttention
from ._cells import AnalogGRUCell as AnalogGRUCell, AnalogLSTMCell as AnalogLSTMCell
from ._convert import (
    analogize as analogize,
    digitize as digitize,
    with_read_keys as with_read_keys,
)
from ._effects import Effects as Effects
from ._embedding import AnalogEmbedding as AnalogEmbedding
from ._hardware_aware import (
    Hardware as Hardware,
    HardwareAwareConv as HardwareAwareConv,
    HardwareAwareLinear as HardwareAwareLinear,
    draw_programming as draw_programming,
    hardware_aware as hardware_aware,
    plain as plain,
)
from ._in_situ import PulsedState as PulsedState, pulsed_updates as pulsed_updates
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
)
from ._over_time import age as age
from ._program_matrix import program_matrix as program_matrix
from ._rewritten import RewriteCost as RewriteCost, RewrittenArrays as RewrittenArrays
from ._tiki_taka import TikiTakaState as TikiTakaState, tiki_taka as tiki_taka
from ._transposed import AnalogConvTranspose as AnalogConvTranspose

if _typing.TYPE_CHECKING:
    from . import _flax as flax  # noqa: F401
else:

    def __getattr__(name):
        # It needs an extra of its own; the rest of `nn` works without.
        if name == "flax":
            return _import_module("._flax", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(name for name in {*globals(), "flax"} if not name.startswith("_"))
