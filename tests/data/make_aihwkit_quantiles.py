"""Measure the laws of aihwkit's noise models and store their quantiles.

    python tests/data/make_aihwkit_quantiles.py

needs `aihwkit==1.1.0` and writes `aihwkit_noise_quantiles.json` beside this file:
for each model, conductance and time, the 1 % to 99 % quantiles, in microsiemens (of
drift exponents: pure numbers), of `SAMPLES` draws from aihwkit's own functions.
"""

import json
import pathlib
from importlib.metadata import version

import numpy as np

SAMPLES = 200_000
LEVELS = (0.0, 0.05, 0.2, 0.6, 1.0)  # of g_max; CMO/HfOx: of its window
TIMES = (1.0, 86400.0, 315360000.0)  # 1 s, 1 day, 10 years
DAY = 86400.0


def aihwkit_models() -> dict:
    """Name to `(model, g_min, g_max)`, in microsiemens."""
    from aihwkit.inference.noise.hermes import HermesNoiseModel
    from aihwkit.inference.noise.pcm import PCMLikeNoiseModel
    from aihwkit.inference.noise.reram import (
        ReRamCMONoiseModel,
        ReRamWan2022NoiseModel,
    )

    def cmo(acceptance):
        return ReRamCMONoiseModel(g_max=88.19, g_min=9.0, acceptance_range=acceptance)

    return {
        "wan-2022": (ReRamWan2022NoiseModel(g_max=40.0), 0.0, 40.0),
        "cmo-hfox-fine": (cmo(0.2), 9.0, 88.19),
        "cmo-hfox-coarse": (cmo(2), 9.0, 88.19),
        "pcm": (PCMLikeNoiseModel(g_max=25.0), 0.0, 25.0),
        "hermes-1": (HermesNoiseModel(num_devices=1), 0.0, 10.35),
        "hermes-2": (HermesNoiseModel(num_devices=2), 0.0, 20.7),
    }


def aihwkit_samples(
    name: str, effect: str, level: float, time: float, n: int
) -> np.ndarray:
    """Draw `n` cells from an effect of a model, in float32 as aihwkit computes.

    Effects: `programming`; `exponents`, the drift exponents at a target; `read`, the
    whole chain of programming, drift and read noise.
    """
    import torch

    model, g_min, g_max = aihwkit_models()[name]
    target = torch.full((n,), g_min + level * (g_max - g_min))
    if effect == "exponents":
        return model.generate_drift_coefficients(target).numpy()
    programmed = model.apply_programming_noise_to_conductance(target)
    if effect == "programming":
        return programmed.numpy()
    cells = model.generate_drift_coefficients(target)
    return model.apply_drift_noise_to_conductance(programmed, cells, time).numpy()


def cases() -> list[tuple[str, str, float, float]]:
    """Every `(name, effect, level, time)`; times of static effects are 0."""
    chosen = []
    for name in aihwkit_models():
        times = (1.0, DAY, 2 * DAY) if name == "wan-2022" else TIMES
        effects = [("programming", 0.0)] if name != "wan-2022" else []
        if name.startswith(("pcm", "hermes")):
            effects.append(("exponents", 0.0))
        effects += [("read", time) for time in times]
        chosen += [(name, e, level, t) for e, t in effects for level in LEVELS]
    return chosen


def main() -> None:
    import torch

    torch.manual_seed(0)
    probabilities = np.arange(1, 100) / 100
    rows = []
    for name, effect, level, time in cases():
        samples = aihwkit_samples(name, effect, level, time, SAMPLES)
        _, g_min, g_max = aihwkit_models()[name]
        rows.append(
            {
                "model": name,
                "effect": effect,
                "target": round(g_min + level * (g_max - g_min), 6),
                "time": time,
                # `inverted_cdf`: an order statistic, so that atoms stay exact
                "quantiles": [
                    float(f"{q:.7g}")
                    for q in np.quantile(samples, probabilities, method="inverted_cdf")
                ],
            }
        )
    contents = {"aihwkit": version("aihwkit"), "samples": SAMPLES, "rows": rows}
    path = pathlib.Path(__file__).with_name("aihwkit_noise_quantiles.json")
    lines = json.dumps(contents, separators=(",", ":")).replace('{"model"', '\n{"model"')
    path.write_text(lines + "\n")


if __name__ == "__main__":
    main()
