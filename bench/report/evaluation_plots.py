"""The plots of the report, as SVG inside the page."""

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure

matplotlib.rcParams["svg.hashsalt"] = "sedma"  # the same data make the same page


def svg(figure: Figure) -> str:
    """The `<svg>` element alone."""
    text = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(text, format="svg", metadata=metadata)
    return text.getvalue()[text.getvalue().index("<svg") :]


def learning(record):
    """Products per second over repetitions, means over seeds."""
    figure = Figure((7, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, rows in record["curves"].items():
        mean = np.mean(rows, 0)
        axes.plot(np.arange(1, len(mean) + 1), mean, "o-", label=name)
    axes.set(xlabel="repetition", ylabel="corrected products per second")
    axes.set_xticks(np.arange(1, len(mean) + 1))
    axes.legend(fontsize=7)
    return svg(figure)


def latency(record):
    """Empirical distribution of the latencies of transfers."""
    figure = Figure((7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.ecdf(record["latencies_ms"])
    axes.set(xscale="log", xlabel="ms for 1 MiB from another process", ylabel="share")
    return svg(figure)


def timeline(record):
    """Throughput after the loss of a node over that before, means over seeds."""
    figure = Figure((7, 3.2), layout="constrained")
    axes = figure.subplots()
    at = np.linspace(0, record["horizon_s"], 241)
    for name, arm in record["scenarios"]["node loss"].items():
        each = []
        for rows in arm["timeline"]:
            times, rates = np.array(rows).T
            # A rate holds until the next one was measured.
            each.append(rates[np.searchsorted(times, at, "right").clip(1) - 1])
        axes.plot(at, np.mean(each, 0), label=name)
    axes.set(xlabel="seconds after the loss", ylabel="throughput over before")
    axes.legend(fontsize=7)
    return svg(figure)


def smoothing(record):
    """Error with the chosen smoothing parameter over that with none."""
    figure = Figure((7, 3.2), layout="constrained")
    axes = figure.subplots()
    names = [f"{r['signal']}, {r['device']}" for r in record["rows"]]
    axes.barh(names, [r["memory_over_zero"] for r in record["rows"]])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xlabel="error over that with a smoothing parameter of zero")
    axes.tick_params(labelsize=7)
    return svg(figure)


PLOTS = (
    ("Learning curves", "system", learning),
    ("Latency of our transfers", "system", latency),
    ("Throughput after the loss of a node", "disturbances", timeline),
    ("Chosen smoothing parameter against none", "lambda_adaptation", smoothing),
)


def plots(found: dict) -> list[dict]:
    """Title, bench and SVG of each plot; no SVG if the record lacks the data."""
    made = []
    for title, bench, draw in PLOTS:
        try:
            picture = draw(found[bench])
        except (KeyError, TypeError, IndexError, UnboundLocalError):
            picture = None
        made.append({"title": title, "bench": bench, "svg": picture})
    return made
