"""Resistive memory technologies with published figures.

The four materials carry the figures that MELISO+ (2025, arXiv 2508.13298) simulates,
taken from its device configurations. Pulses up, labels, on/off ratio and cycle-to-cycle
noise agree with Table I of MELISO (Chowdhury et al. 2024, ICONS, arXiv 2409.06140), but for
the pulses of EpiRAM, and those of Ag:a-Si and AlOx/HfO2 with Table I of Chen, Peng & Yu
(2018, IEEE TCAD 37, 3067). The devices were first reported by Jo et al. (2010, Nano Lett.
10, 1297; Ag:a-Si), Woo et al. (2016, IEEE EDL 37, 994; AlOx/HfO2), Choi et al. (2018, Nat.
Mater. 17, 335; EpiRAM) and Wu et al. (2018, Symposium on VLSI Technology; TaOx/HfOx). All
read at 0.5 V for 5 ns through a transistor of 15 kOhm.
"""

from ..kernels import Device

AG_ASI = Device(
    g_min=3.076923077e-9,
    g_max=3.846153846e-8,
    pulses_ltp=97,
    pulses_ltd=100,
    nonlinearity_ltp=2.4,
    nonlinearity_ltd=-4.88,
    sigma_c2c=0.035,
    v_ltp=3.2,
    v_ltd=-2.8,
    t_ltp=300e-6,
    t_ltd=300e-6,
    r_access=15e3,
)
"""Ag in amorphous silicon: slow, high resistance, strongly nonlinear."""

ALOX_HFO2 = Device(
    g_min=1.3357e-5,
    g_max=5.9172e-5,
    pulses_ltp=40,
    pulses_ltd=40,
    nonlinearity_ltp=1.94,
    nonlinearity_ltd=-0.61,
    sigma_c2c=0.05,
    v_ltp=0.9,
    v_ltd=-1.0,
    t_ltp=100e-6,
    t_ltd=100e-6,
    r_access=15e3,
)
"""AlOx/HfO2 bilayer: few levels, small on/off ratio."""

EPIRAM = Device(
    g_min=2.459298608e-7,
    g_max=1.2345679e-5,
    pulses_ltp=256,
    pulses_ltd=256,
    nonlinearity_ltp=0.5,
    nonlinearity_ltd=-0.5,
    sigma_c2c=0.02,
    v_ltp=5.0,
    v_ltd=-3.0,
    t_ltp=5e-6,
    t_ltd=5e-6,
    r_access=15e3,
)
"""Epitaxial SiGe with Ag in dislocations: many levels, on/off ratio 50.

MELISO+ simulates 256 pulses; Table I of MELISO (2024) has 64 states.
"""

TAOX_HFOX = Device(
    g_min=1e-6,
    g_max=1e-5,
    pulses_ltp=128,
    pulses_ltd=128,
    nonlinearity_ltp=0.04,
    nonlinearity_ltd=-0.63,
    sigma_c2c=0.037,
    v_ltp=1.6,
    v_ltd=1.6,  # the sign is the source's; only the square is used
    t_ltp=50e-9,
    t_ltd=50e-9,
    r_access=15e3,
)
"""TaOx/HfOx with an electro-thermal layer: fast, nearly linear."""

PRESETS = {
    "ag-asi": AG_ASI,
    "alox-hfo2": ALOX_HFO2,
    "epiram": EPIRAM,
    "taox-hfox": TAOX_HFOX,
}
"""The four materials, by the names that the command line takes."""
