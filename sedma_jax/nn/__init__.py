"""Turn the layers of a network analog, look into them, and train against the noise."""

import typing as _typing
from importlib import import_module as _import_module

from .._dir import later_names

__dir__ = later_names(globals(), "flax")

from ._attention import AnalogAttention as AnalogAttention
from ._cells import AnalogGRUCell as AnalogGRUCell, AnalogLSTMCell as AnalogLSTMCell
from ._convert import (
    analogize as analogize,
    digitize as digitize,
    with_read_keys as with_read_keys,
)
from ._effects import Effects as Effects
from ._embedding import AnalogEmbedding as AnalogEmbedding
from ._foreign.aihwkit import from_aihwkit as from_aihwkit
from ._foreign.crosssim import from_crosssim as from_crosssim
from ._foreign.peer_settings import PeerSettings as PeerSettings
from ._foreign.pytorch import LoadReport as LoadReport
from ._foreign.pytorch_equinox import load_pytorch as load_pytorch
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
from ._training.aware import Hardware as Hardware
from ._training.buffered_tiki_taka import (
    agad as agad,
    chopped_tiki_taka as chopped_tiki_taka,
    tiki_taka_v2 as tiki_taka_v2,
)
from ._training.fast_array import (
    BufferedTikiTakaState as BufferedTikiTakaState,
    FastArray as FastArray,
)
from ._training.hardware_aware import (
    HardwareAwareConv as HardwareAwareConv,
    HardwareAwareLinear as HardwareAwareLinear,
    draw_programming as draw_programming,
    hardware_aware as hardware_aware,
    plain as plain,
)
from ._training.in_situ import PulsedState as PulsedState, pulsed_updates as pulsed_updates
from ._training.mixed_precision import (
    MixedPrecisionState as MixedPrecisionState,
    mixed_precision as mixed_precision,
)
from ._training.tiki_taka import TikiTakaState as TikiTakaState, tiki_taka as tiki_taka
from ._transposed import AnalogConvTranspose as AnalogConvTranspose

if _typing.TYPE_CHECKING:
    from . import _flax as flax  # noqa: F401
else:

    def __getattr__(name):
        # It needs an extra of its own; the rest of `nn` works without.
        if name == "flax":
            return _import_module("._flax", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
