"""What the commands show and write: tables, progress bars, files."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TimeElapsedColumn

from ..._files.whole_files import replacing
from ..._progress import after_a_second, text
from ..._trace import Watch
from .tables import figure, print_table


@contextmanager
def stage_display() -> Iterator[Watch | None]:
    """Show the stages on stderr if that is a terminal and they take over a second."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = SpinnerColumn(finished_text="+"), text("{task.description}")
    bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
    tasks: list[TaskID] = []

    def watch(stage: str, ended: bool) -> None:
        if ended:
            bar.update(tasks.pop(), total=1, completed=1)
        else:
            tasks.append(bar.add_task(stage, total=None))

    with after_a_second(bar):
        yield watch


def show_runs(records: list[dict]) -> None:
    """Print the results of runs, one row per run."""
    first = records[0]
    m, n = first["shape"]
    sizes = [first["array"]] if "array" in first else []
    sizes += [(kind["rows"], kind["cols"]) for kind in first.get("pool", [])]
    print(
        f"{first['matrix']}: {m} x {n}, {first['nnz']} nonzeros, "
        f"{_counted(first['partitions'], 'partition')} of "
        f"{', '.join(f'{rows} x {cols}' for rows, cols in sizes)}, "
        f"memory efficiency {first['memory_efficiency']:.1%}"
    )
    figures = ("l2 raw", "l2 corrected", "linf raw", "linf corrected")
    figures += ("pulses", "write energy J", "write latency s", "seconds")
    rows = [
        (
            record["device"],
            *(
                figure(record[f"relative_{norm}_{stage}"])
                for norm in ("l2", "linf")
                for stage in ("raw", "corrected")
            ),
            f"{record['pulses']:,}",
            figure(record["write_energy_j"]),
            figure(record["write_latency_s"]),
            f"{sum(record['seconds'].values()):.2f}",
        )
        for record in records
    ]
    about = "Errors relative to the exact product, before (raw) and after correction."
    print_table(("device", *figures), rows, right=figures, title=about)
    for record in records:
        if "workload" in record:
            print(
                f"{record['device']}: {record['workload']}, {record['recalled']} patterns "
                f"recalled, {record['strategy']} "
                f"{'drawn' if record['explored'] else 'found by weighing all'}, lambda "
                f"{figure(record['lambda'])}, {record['written']} rewards written back"
            )
            print(f"{record['device']}: {_compared(record)}")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _compared(record: dict) -> str:
    """A reward beside those of earlier runs."""
    told = f"reward {figure(record['reward'], '.4g')}"
    if record["best_before"] is None:
        return f"{told}, the first of its kind"
    if record["runs_before"]:
        mean, runs = record["reward_before"], record["runs_before"]
        told += f"; before {mean:.4g}, the mean of {runs} runs of {record['strategy']}"
    else:
        told += f"; {record['strategy']} is new"
    best, mean = record["best_before"], record["best_reward_before"]
    return f"{told}; best before {best} with {mean:.4g}"


def show_delivery(record: dict) -> None:
    """Print which peers hold the product, and where the workflow was placed."""
    if record["cid"]:
        where = " in this process" if record["peers_embedded"] else ""
        print(
            f"published: {record['cid']} in {record['publish_latency_ms']:.0f} ms, held by "
            f"{len(record['peers'])} peers{where}"
        )
        for peer in record["peers"]:
            print(f"  {peer['id']}  score {peer['score']:.3g}, {peer['rtt_ms']:.3g} ms")
    if record["placement"]:
        placed = record["placement"]["placement"].items()
        print(
            f"placed: {', '.join(f'{agent} on {node}' for agent, node in placed)}; cost "
            f"{record['placement']['cost']:.4g}, {record['placement_choice']}"
        )
    if record["manifests"]:
        print("manifests: " + ", ".join(record["manifests"]))
    if record["applied"]:
        objects = record["applied"]["objects"].items()
        told = ", ".join(f"{count} {action}" for action, count in objects)
        print(f"applied: {record['applied']['ready']} replicas ready; objects: {told}")


def plot_errors(path: str, names: list[str], records: list[dict]) -> None:
    """Draw the errors before and after correction into a file."""
    from ...viz import correction_errors  # matplotlib is an extra

    raw = np.array([r["relative_l2_raw"] for r in records])
    corrected = np.array([r["relative_l2_corrected"] for r in records])
    figure = correction_errors(names, raw, corrected)
    file = Path(path)
    with replacing(file) as part:
        figure.savefig(part, format=file.suffix[1:] or "png")


def write_outputs(folder: Path, result: dict, outputs: list[np.ndarray]) -> None:
    """Write `y.npy` and `result.json`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "y.npy") as part, open(part, "wb") as file:
        np.save(file, outputs[0] if len(outputs) == 1 else np.stack(outputs))
    with replacing(folder / "result.json") as part:
        part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
