"""Every published technology by name, with its source.

A technology is listed only with figures that were read in its source, or in the code of a
simulator that publishes them; what is not published is ideal.
"""

from collections.abc import Mapping
from types import MappingProxyType

import equinox as eqx

from .. import noise_models as published
from ..kernels import Device, MeasuredArray, one_of
from ._presets import AG_ASI, ALOX_HFO2, EPIRAM, TAOX_HFOX
from ._pulsed import HZO_FEFET, LI_ECRAM, PCMO, TAOX_TIO2


class Technology(eqx.Module):
    """A published technology.

    - `device`: a `Device` where pulses are published, otherwise a `MeasuredArray`; of a few
        the window alone, as `noise_models.window` has it.
    - `source`: author, year, place, and where its figures were read.
    - `derived`: which figures do not stand in the source as they are, and where they come
        from; empty if all do.

    **Example:**

        >>> technology = sj.devices.CATALOGUE["epiram"]
        >>> technology.device is sj.devices.EPIRAM, "MELISO+" in technology.source
        (True, True)
    """

    device: Device | MeasuredArray
    source: str = eqx.field(static=True)
    derived: str = eqx.field(static=True, default="")


_MELISO = "; figures of MELISO+ (2025), arXiv 2508.13298, device configurations"
_WAN = "Wan et al. (2022), Nature 608, 504, Extended Data Fig. 3"
_HERMES = "Le Gallo et al. (2023), Nat. Electron. 6, 680; aihwkit `hermes.py`"
_AGRAWAL = "Agrawal et al. (2022), IEEE IEDM, 21.7, Fig. 10; CrossSim `SONOS.py`"
_CMO = "Falcone et al. (2025), arXiv 2502.04524; aihwkit `reram.py`"
_CHEN = "Chen, Peng & Yu (2018), IEEE TCAD 37, 3067, Table I"
_JERRY = "Jerry et al. (2017), IEEE IEDM, table of the last page"
_PENG = "Peng et al. (2019), IEEE IEDM, Table 1"
_RESISTANCE = "window from R_on and the on/off ratio"
_FEWER = _RESISTANCE + "; noise below 1 % taken as 1 %; pulses as many as states"
_WINDOW = _RESISTANCE + "; pulses and noise are not published there: placeholders"
_SONOS_V_READ = 0.5
_SONOS_G_MAX = 3200e-9 / _SONOS_V_READ  # its fits reach 3200 nA


def _array(like: MeasuredArray, programming) -> MeasuredArray:
    return MeasuredArray(like.device, programming)


def _window(r_on: float, ratio: float) -> Device:
    return published.window(1 / r_on / ratio, 1 / r_on)


_SONOS = MeasuredArray(
    published.window(0.0, _SONOS_G_MAX, _SONOS_V_READ),
    published.sonos_programming(_SONOS_V_READ),
    None,
    published.sonos_read(_SONOS_V_READ),
)

CATALOGUE: Mapping[str, Technology] = MappingProxyType(
    {
        "ag-asi": Technology(AG_ASI, "Jo et al. (2010), Nano Lett. 10, 1297" + _MELISO),
        "alox-hfo2": Technology(ALOX_HFO2, "Woo et al. (2016), IEEE EDL 37, 994" + _MELISO),
        "epiram": Technology(EPIRAM, "Choi et al. (2018), Nat. Mater. 17, 335" + _MELISO),
        "taox-hfox": Technology(TAOX_HFOX, "Wu et al. (2018), VLSI" + _MELISO),
        "taox-tio2": Technology(
            TAOX_TIO2,
            f"Gao et al. (2015), Nanotechnology 26, 455204; {_CHEN}; pulses of {_JERRY}",
            _FEWER,
        ),
        "pcmo": Technology(
            PCMO,
            f"Park et al. (2013), IEEE IEDM, 625; {_CHEN}; pulses of {_JERRY}",
            _FEWER,
        ),
        "hzo-fefet": Technology(
            HZO_FEFET,
            _JERRY,
            _RESISTANCE + "; noise below 0.5 % taken as 0.5 %; pulses as many as states; "
            "the label of depression, +1.46, as a curve of its curvature, 1.1783",
        ),
        "li-ecram": Technology(
            LI_ECRAM,
            "Tang et al. (2018), IEEE IEDM; steps as aihwkit fits them, "
            f"`presets/devices.py`, `EcRamPresetDevice`; R_on and on/off ratio of {_PENG}",
            _RESISTANCE + "; pulses and labels from linear steps, integrated; noise of a "
            "pulse is 0.3 steps; voltages and widths are not published there",
        ),
        "wan-2022": Technology(published.WAN_2022, _WAN + ", 1 s; aihwkit `reram.py`"),
        "wan-2022-1d": Technology(
            _array(published.WAN_2022, published.WAN_2022_1D),
            _WAN + ", 1 day; aihwkit `reram.py`",
        ),
        "wan-2022-2d": Technology(
            _array(published.WAN_2022, published.WAN_2022_2D),
            _WAN + ", 2 days; aihwkit `reram.py`",
        ),
        "wan-2022-cubic": Technology(
            MeasuredArray(published.window(0.0, 39.26e-6), published.WAN_2022_CUBIC),
            _WAN + ", as CrossSim fits it, `RRAM_Wan.py`",
        ),
        "cmo-hfox": Technology(published.CMO_HFOX, _CMO + ", accepted within 2 %"),
        "cmo-hfox-fine": Technology(
            MeasuredArray(
                published.CMO_HFOX.device,
                published.CMO_HFOX_PROGRAMMING_FINE,
                published.CMO_HFOX.drift,
                published.CMO_HFOX.read,
            ),
            _CMO + ", accepted within 0.2 %",
        ),
        "milo-2021": Technology(
            published.MILO_2021, "Milo et al. (2021), IEEE IRPS, Fig. 4; CrossSim"
        ),
        "pcm": Technology(
            published.PCM,
            "Nandakumar et al. (2019), IEEE ICECS, 727; aihwkit `pcm.py`",
        ),
        "joshi-2020": Technology(
            _array(published.PCM, published.JOSHI_2020_PROGRAMMING),
            "Joshi et al. (2020), Nat. Commun. 11, 2473, Fig. 3b; CrossSim",
        ),
        "hermes-1": Technology(published.HERMES_1, _HERMES + ", one cell"),
        "hermes-2": Technology(published.HERMES_2, _HERMES + ", two cells"),
        "sonos": Technology(
            _SONOS, _AGRAWAL + "; read at 0.5 V", "conductances are currents over 0.5 V"
        ),
        "jain-2019": Technology(
            _window(6e3, 17), f"Jain et al. (2019), IEEE ISSCC, RRAM; {_PENG}", _WINDOW
        ),
        "kim-2019": Technology(
            _window(40e3, 12.5), f"Kim et al. (2019), VLSI, GST PCM; {_PENG}", _WINDOW
        ),
        "ni-2018": Technology(
            _window(500e3, 100), f"Ni et al. (2018), IEEE IEDM, HZO FeFET; {_PENG}", _WINDOW
        ),
        "dutta-2020": Technology(
            _window(4e6, 4),
            "Dutta et al. (2020), IEEE IEDM, Fig. 9, IWO/HZO FeFET of the back end",
            _WINDOW,
        ),
    }
)
"""Published technologies by name. Read only."""


def named(name: str) -> Device | MeasuredArray:
    """A technology of the catalogue; `-` and `_` and the case of letters do not matter.

    **Raises:** `ValueError` for a name that is not in the catalogue.

    **Example:**

        >>> sj.devices.named("EPIRAM") is sj.devices.EPIRAM
        True
    """
    return CATALOGUE[one_of("sedma_jax.devices.named", "name", name, CATALOGUE)].device
