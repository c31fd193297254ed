"""Write `bench/results/report.md` from `bench/results/speed.json`.

python -m bench.core.report [FILE]
"""

import json
from pathlib import Path

from bench.shared import RESULTS, parser_of


def lines_of(result):
    """The report, line by line."""
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    limits = result["limits_per_second"]
    yield "# Speed, side by side\n"
    yield f"n = {result['n']}, float32, tiles of 256 x 256; {result['device']}; "
    yield f"{result['date']}; {versions}.\n"
    yield (
        f"Measured limits: copies {limits['bytes'] / 1e9:.3g} GB/s, products "
        f"{limits['flops'] / 1e9:.3g} GFLOP/s, normals {limits['draws'] / 1e6:.3g} M/s "
        "(the fastest generator). A copy writes too, and a product of one vector only "
        "reads, hence shares above 100 %. Times are medians; ratios are medians over "
        "rounds of the time over ours in the same round, so that above 1 is slower than "
        "ours. The limit of programming is one draw per cell.\n"
    )
    yield "| case | contender | ms | over ours | % of limit | compile s | peak MB |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for name, case in result["cases"].items():
        for contender, figures in case["contenders"].items():
            compiled, peak = (figures.get(k) for k in ("compile_seconds", "peak_bytes"))
            compiled = "" if compiled is None else f"{compiled:.2f}"
            peak = "" if peak is None else f"{peak / 1e6:.0f}"
            title = name if contender == "ours" else ""
            yield (
                f"| {title} | {contender} | {1e3 * figures['seconds']:.4g} | "
                f"{figures['over_ours']:.3g} | {figures['percent_of_limit']:.3g} | "
                f"{compiled} | {peak} |"
            )
    yield "\nSkipped:\n"
    for name, why in result["skipped"].items():
        yield f"- {name}: {why}"


def main():
    """Write the report."""
    parser = parser_of(__doc__)
    parser.add_argument("results", nargs="?", default=RESULTS / "speed.json", type=Path)
    path = parser.parse_args().results
    report = "\n".join(lines_of(json.loads(path.read_text()))) + "\n"
    path.with_name("report.md").write_text(report)


if __name__ == "__main__":
    main()
