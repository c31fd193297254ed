"""Write one self-contained HTML page: the paper's tables beside what was measured.

    python -m bench.report.evaluation [--results DIR] [--out report.html] [--quick]

`sedma bench report` calls it. It reads the JSON files of other benches (`report.toml`) and
measures nothing. A figure without a file says "not measured"; the paper's figures have
columns of their own. Intervals are 95 %, by Student's t over seeds or runs.
"""

import json
import tomllib
from pathlib import Path

import jinja2
import numpy as np
from scipy import stats

from bench.report.evaluation_case_studies import CASE_STUDIES
from bench.report.evaluation_figures import Figure
from bench.report.evaluation_plots import plots
from bench.report.evaluation_tables import TABLES
from bench.shared import machine, parser_of

# Colours and fonts, as on the site.
LOOK = Path(__file__).parents[2] / "docs" / "pages" / "assets" / "look.css"
HERE = Path(__file__).parent
MISSING = "not measured"


def load(folder: Path) -> dict:
    """Every JSON file, by name; and why some could not be read, by their names."""
    found, broken = {}, {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            broken[path.name] = str(error)
    return {"found": found, "broken": broken}


def interval(values: list[float]) -> tuple[float, float | None]:
    """Mean, and half the width of its 95 % interval, which a single value has not."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    spread = float(np.std(values, ddof=1)) / len(values) ** 0.5
    spread = spread if spread > 1e-12 * abs(mean) else 0.0  # rounding of equal values
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * spread


def value_of(figure: Figure, results: dict):
    """Values of a figure, or None if the file lacks them."""
    try:
        values = figure.read(results[figure.bench])
    except (KeyError, IndexError, TypeError):
        return None
    values = [float(v) for v in (values or []) if v is not None]
    return values or None


def cell(figure: Figure | None, results: dict) -> dict:
    """The content of a cell of the page."""
    values = value_of(figure, results) if figure is not None else None
    if figure is None or values is None:
        return {"text": MISSING, "missing": True}
    mean, half = interval(values)
    text = f"{mean:.4g}" + (f" ± {half:.2g}" if half is not None else "")
    return {
        "missing": False,
        "text": text,
        "mean": mean,
        "half": half,
        "count": len(values),
        "bench": figure.bench,
        "simulated": figure.simulated,
    }


HOLDS, OTHER, NEITHER = "holds", "the other way round", "no difference"


WORDS = {
    HOLDS: "so here",
    OTHER: "here the order is the other way round",
    NEITHER: "here no difference beyond the intervals shows",
}


def table_of(table, results: dict) -> dict:
    """A table with its cells, and a sentence per order that the paper claims."""
    rows = []
    for row in table.rows:
        cells = [
            {"paper": paper, "ours": cell(figure, results)}
            for paper, figure in zip(row.paper, row.figures, strict=True)
        ]
        rows.append({"name": row.name, "stands_for": row.stands_for, "cells": cells})
    said, unmeasured = orders_of(table, rows)
    return {
        "title": table.title,
        "columns": [c.name for c in table.columns],
        "rows": rows,
        "holds": said[HOLDS],
        "differs": said[OTHER] + said[NEITHER],
        "counts": {k: len(v) for k, v in said.items()} | {"open": unmeasured},
        "notes": table.notes,
    }


def orders_of(table, rows: list[dict]) -> tuple[dict[str, list[str]], int]:
    """Sentences on the orders that the paper claims, by outcome; count of those open."""
    said, unmeasured = {HOLDS: [], OTHER: [], NEITHER: []}, 0
    first = next(row for row in rows if row["name"] == table.ours)
    for k, column in enumerate(table.columns):
        best = first["cells"][k]
        for row in rows:
            other = row["cells"][k]
            if row is first or not claimed(best, other, column.higher_is_better):
                continue
            told = order(best["ours"], other["ours"], column.higher_is_better)
            if told is None:
                unmeasured += 1
                continue
            said[told].append(
                f"{column.name}: the paper has {table.ours} ahead of {row['name']} "
                f"({best['paper']:g} against {other['paper']:g}); {WORDS[told]} "
                f"({best['ours']['text']} against {other['ours']['text']})."
            )
    return said, unmeasured


def claimed(best: dict, other: dict, higher: bool) -> bool:
    """Whether the paper has the first ahead of the second."""
    if best["paper"] is None or other["paper"] is None:
        return False
    return (best["paper"] > other["paper"]) == higher and best["paper"] != other["paper"]


def order(ours: dict, theirs: dict, higher: bool) -> str | None:
    """How two cells compare with what the paper claims; None if one was not measured."""
    if "mean" not in ours or "mean" not in theirs:
        return None
    gap = (1 if higher else -1) * (ours["mean"] - theirs["mean"])
    noise = ((ours["half"] or 0) ** 2 + (theirs["half"] or 0) ** 2) ** 0.5
    if gap > noise:
        return HOLDS
    return OTHER if gap < 0 and gap <= -noise else NEITHER


def total(tables: list[dict]) -> dict:
    """Counts of all tables together."""
    return {k: sum(t["counts"][k] for t in tables) for k in (HOLDS, OTHER, NEITHER, "open")}


def extent(record) -> str:
    """The seeds and scenarios that a record says it covers."""
    if not isinstance(record, dict):
        return ""
    parts = [f"{record['seeds']} seeds"] if isinstance(record.get("seeds"), int) else []
    if isinstance(record.get("scenarios"), dict):
        parts.append(f"with {', '.join(record['scenarios'])}")
    return " ".join(parts)


def commands(plan: dict, quick: bool) -> dict:
    """The command of each bench in the report."""
    flags = lambda e: (
        (" --quick" if quick and "quick" in e else "")
        + (" --rivals PYTHON" if "rivals" in e else "")
    )
    return {name: f"sedma bench run {name}{flags(e)}" for name, e in plan.items()}


def page(results: dict, plan: dict, *, quick: bool = False) -> str:
    """The whole page, from what `load` returned."""
    found = results["found"]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    given = {}
    for name in plan:
        record = found.get(name)
        given[name] = record.get("machine") if isinstance(record, dict) else None
    skipped = {}
    for name in plan:
        said = found.get(name, {}).get("skipped", {})
        skipped |= {name: said} if isinstance(said, str) else said
    if quick:
        skipped |= {n: "left out of the quick form" for n in plan if "quick" not in plan[n]}
    extents = {name: extent(found.get(name)) for name in plan}
    tables = [table_of(table, found) for table in (*TABLES, *CASE_STUDIES)]
    return environment.get_template("evaluation.html.jinja").render(
        look=LOOK.read_text(),
        tables=tables,
        total=total(tables),
        plots=plots(found),
        typical=found.get("typical"),
        complexity=found.get("complexity"),
        network=found.get("network", {}).get("five_peers"),
        commands=commands(plan, quick),
        machines=given,
        extents=extents,
        here=machine(),
        broken=results["broken"],
        skipped=skipped,
        quick=quick,
        missing=MISSING,
    )


def main() -> None:
    """Write the page."""
    parser = parser_of(__doc__, results=True)
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    parser.add_argument("--quick", action="store_true", help="say that seeds were few")
    options = parser.parse_args()
    plan = tomllib.loads((HERE / "report.toml").read_text("utf-8"))
    options.out.write_text(page(load(options.results), plan, quick=options.quick), "utf-8")


if __name__ == "__main__":
    main()
