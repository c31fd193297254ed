"""The plots of the report, as SVG that stands in the page."""

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure

matplotlib.rcParams["svg.hashsalt"] = "sedma"  # the same data, the same page


def svg(figure: Figure) -> str:
    """The `<svg>` element alone."""
    text = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(text, format="svg", metadata=metadata)
    return text.getvalue()[text.getvalue().index("<svg") :]


def learning(record):
    """Products a second over repetitions, mean of seeds."""
    figure = Figure((7, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, rows in record["curves"].items():
        mean = np.mean(rows, 0)
        axes.plot(np.arange(1, len(mean) + 1), mean, "o-", label=name)
    axes.set(xlabel="repetition", ylabel="corrected products a second")
    axes.set_xticks(np.arange(1, len(mean) + 1))
    axes.legend(fontsize=7)
    return svg(figure)


def latency(record):
    """Empirical distribution of transfers."""
    figure = Figure((7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.ecdf(record["latencies_ms"])
    axes.set(xscale="log", xlabel="ms for 1 MiB from another process", ylabel="share")
    return svg(figure)


def timeline(record):
    """Seconds to adapt to each disturbance in turn."""
    figure = Figure((7, 3.2), layout="constrained")
    axes = figure.subplots()
    times = record["steady"]["adaptation_s"]
    axes.bar(np.arange(1, len(times) + 1), times)
    axes.set(xlabel="shift of the load", ylabel="seconds until adapted")
    return svg(figure)


def weights(record):
    """Error with the chosen weight over that with none."""
    figure = Figure((7, 3.2), layout="constrained")
    axes = figure.subplots()
    names = [f"{r['signal']}, {r['device']}" for r in record["rows"]]
    axes.barh(names, [r["memory_over_zero"] for r in record["rows"]])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xlabel="error over that of a weight of zero")
    axes.tick_params(labelsize=7)
    return svg(figure)


PLOTS = (
    ("Learning curves", "system", learning),
    ("Latency of our transfers", "system", latency),
    ("Adaptation to ten shifts of the load", "recompile", timeline),
    ("Chosen weight of the roughness against none", "lambda_adaptation", weights),
)


def plots(found: dict) -> list[dict]:
    """Title, bench and SVG of each; no SVG where the record lacks the data."""
    made = []
    for title, bench, draw in PLOTS:
        try:
            picture = draw(found[bench])
        except (KeyError, TypeError, IndexError, UnboundLocalError):
            picture = None
        made.append({"title": title, "bench": bench, "svg": picture})
    return made
