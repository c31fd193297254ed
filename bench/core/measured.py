"""Models fitted to real measurements, judged on cells that the fit did not see.

    SEDMA_DATA=DIR python -m bench.core.measured [--data DIR] [--results DIR] [--plot FILE]

DIR has the folder `measured`: 1,000 pulses up and 1,000 down of a ReRAM (Gong et al. 2018)
and 501 successive reads of 156 cells of a 1T4R array. Every other cell is fitted; as many
cells as the others are simulated from their first reads, with ten keys, and compared; then
the halves change places, since they differ from each other by twice the standard error of
such halves. Compared are the spread of the cells, steps from read to read, autocorrelation
and spectrum of the relative conductance, and its course in time. The errors beside the
autocorrelation are standard errors over the measured cells. Gong's curve is fitted by a
label and by a table.
The plot shows measured traces, whose terms allow no copy in this repository.
"""

import os
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np

import sedma_jax as sj
from bench.shared import ROOT, parser_of, write_json

LAGS = (1, 2, 5, 10, 20, 50, 100)
SHARES = (0.1, 0.5, 0.9)
KEYS = 10


def relative(g):
    """Conductances as a share of the median of each cell."""
    return g / np.median(g, axis=1, keepdims=True)


def spectrum(g):
    """Mean power spectrum of the relative conductance, per cycle and read."""
    z = relative(g) - relative(g).mean(axis=1, keepdims=True)
    window = np.hanning(z.shape[1])
    power = np.abs(np.fft.rfft(z * window, axis=1)) ** 2 / np.sum(window**2)
    return np.fft.rfftfreq(z.shape[1])[1:], np.median(power, axis=0)[1:]


def figures(g):
    """What is compared, of conductances (cells, reads)."""
    z = relative(g)
    rest = z - z.mean(axis=1, keepdims=True)
    variance = np.mean(rest**2, axis=1)
    together = lambda n: np.mean(np.mean(rest[:, n:] * rest[:, :-n], axis=1) / variance)
    step = np.abs(np.diff(z, axis=1))
    _, power = spectrum(g)
    return {
        "spread_of_cells": np.quantile(z.std(axis=1), SHARES).tolist(),
        "steps": np.quantile(step, (0.5, 0.9, 0.99)).tolist(),
        "relative_quantiles": np.quantile(z, (0.01, 0.1, 0.9, 0.99)).tolist(),
        "autocorrelation": {str(n): float(together(n)) for n in LAGS},
        "median_at_read": {str(k): float(np.median(z[:, k])) for k in (0, 5, 50, 500)},
        "spectrum": dict(
            zip(
                ("low", "middle", "high"),
                (float(np.exp(np.mean(np.log(p)))) for p in np.array_split(power, 3)),
                strict=True,
            )
        ),
    }


def autocorrelation_error(g):
    """Standard errors of the autocorrelation, over the cells."""
    rest = relative(g) - relative(g).mean(axis=1, keepdims=True)
    variance = np.mean(rest**2, axis=1)
    each = lambda n: np.mean(rest[:, n:] * rest[:, :-n], axis=1) / variance
    return {str(n): float(np.std(each(n), ddof=1) / np.sqrt(len(g))) for n in LAGS}


def plain(model):
    """The figures of a model."""
    return {name: float(value) for name, value in vars(model).items() if name != "levels"}


def judge_half(seen, held):
    """Fit one half of the cells, and simulate the other from its first reads."""
    found = sj.devices.fit_reads(seen)
    start = jnp.asarray(held[:, 0])
    simulated = np.concatenate(
        [
            np.asarray(
                sj.devices.simulate_reads(found, start, held.shape[1], key=jr.key(number))
            )
            for number in range(KEYS)
        ]
    )
    relaxation, group = found.drift.models
    return {
        "cells_fitted": len(seen),
        "cells_held_out": len(held),
        "relaxation": plain(relaxation),
        "common_spread": float(group.common_spread),
        "traps": [plain(trap) for trap in group.models],
        "white": found.white,
        "white_spread": found.white_spread,
        "fitted": figures(seen),
        "held_out": figures(held),
        "simulated": figures(simulated),
    }, simulated


def judge_reads(path):
    """Both halves in turn, and all cells beside all that were simulated for them."""
    g = 1 / np.loadtxt(path)[:, 3:]
    halves, traces = zip(
        judge_half(g[::2], g[1::2]), judge_half(g[1::2], g[::2]), strict=True
    )
    simulated = np.concatenate(traces)
    record = {
        "halves": list(halves),
        "measured": figures(g),
        "autocorrelation_error": autocorrelation_error(g),
        "simulated": figures(simulated),
    }
    return record, (g, simulated)


def judge_pulses(path):
    """Gong's curve by a label and by a table, with the residual of each."""
    fits = {}
    for name in ("label", "table"):
        found = sj.devices.fit(
            path, unit=None, window=(1e-6, 1e-5), tabulated=name == "table"
        )
        fits[name] = found
    found = fits["label"]
    device = found.device
    width = device.g_max - device.g_min
    record = {
        "nonlinearity": [device.nonlinearity_ltp, device.nonlinearity_ltd],
        "label_error": [found.ltp.label_error, found.ltd.label_error],
        "r2": [found.ltp.r2, found.ltd.r2],
        "rms_of_window": [found.ltp.rms / width, found.ltd.rms / width],
        "read_noise_of_window": found.read_noise / width,
        "pulse_noise_of_window": found.pulse_noise / width,
    }
    table = fits["table"]
    record["table_rms_of_window"] = [table.ltp.rms / width, table.ltd.rms / width]
    return record, found


def draw(held, simulated, found):
    """Measured beside simulated: traces, distribution, autocorrelation, spectrum, Gong."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    for axis, g, title in zip(
        axes, (held, simulated), ("measured", "simulated"), strict=False
    ):
        axis.plot(relative(g)[:8].T + 0.3 * np.arange(8), lw=0.7)
        axis.set(title=f"{title}, 8 cells", xlabel="read", ylabel="relative, shifted")
    for g, name in ((held, "measured"), (simulated, "simulated")):
        z = relative(g)
        axes[2].hist(
            z.ravel(), np.linspace(0.6, 1.4, 81), density=True, histtype="step", label=name
        )
        rest = z - z.mean(axis=1, keepdims=True)
        lags = np.arange(1, 150)
        auto = [np.mean(np.mean(rest[:, n:] * rest[:, :-n], 1) / rest.var(1)) for n in lags]
        axes[3].plot(lags, auto, label=name)
        axes[4].loglog(*spectrum(g), label=name)
    axes[2].set(
        title="distribution", xlabel="conductance / median of the cell", yscale="log"
    )
    axes[3].set(title="autocorrelation", xlabel="lag (reads)")
    axes[4].set(title="spectrum, median cell", xlabel="cycles per read")
    for axis in axes[2:5]:
        axis.legend()
    for part, name in ((found.ltp, "LTP"), (found.ltd, "LTD")):
        axes[5].plot(part.mean * 1e6, ".", ms=1, label=f"{name}, R² {part.r2:.3f}")
        axes[5].plot(part.curve * 1e6, "k", lw=1)
    axes[5].set(title="Gong et al. (2018), fit", xlabel="pulse", ylabel="µS (window given)")
    axes[5].legend()
    return figure


def main():
    parser = parser_of(__doc__, results=True)
    parser.add_argument("--data", type=Path, default=os.environ.get("SEDMA_DATA"))
    parser.add_argument("--plot", type=Path, default=ROOT / "build" / "measured.png")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the measurements: --data DIR, or SEDMA_DATA")
    folder = Path(options.data) / "measured"
    reads, (held, simulated) = judge_reads(folder / "rram_1t4r_reads_after_set.tsv")
    pulses, found = judge_pulses(folder / "gong2018_ltp_ltd.csv")
    write_json(options.results / "measured.json", {"reads": reads, "gong_2018": pulses})
    options.plot.parent.mkdir(parents=True, exist_ok=True)
    draw(held, simulated, found).savefig(options.plot, dpi=100)


if __name__ == "__main__":
    main()
