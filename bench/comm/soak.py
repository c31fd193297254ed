"""An hour of puts, gets, keeps, jobs, kills and strangers on five nodes and a service.

    python -m bench.comm.soak [--seconds 3600] [--out FILE] [--plot FILE]

The nodes are `sedma node start`, two of them `--open`, three with two holders per tensor;
the service is `sedma serve` with two workers. Of the nodes three are killed (`kill -9`) and
started again at random, and the other two never, so that their memory covers all of the
time; the service is killed in the first half, its workers in the second. After each
restart, and at the end, what a node has acknowledged is fetched from this node alone and
compared with the SHA-256 of what was put; at the end as many as fit into 15 minutes, in
random order.

Resident memory, descriptors and mappings of what lives throughout, and their sums over all
nodes and the service, count as flat if a line fitted to the second half rises by at most
`GROWTH` of its mean over that half. Workers compile programs for new shapes until few
mappings are left (`docs/promises.md`): they are judged by their limits instead.
"""

import argparse
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from bench.comm.soak_load import AT_END, Load, running
from bench.comm.soak_nodes import Daemon, figures_of, five_nodes, job_service
from bench.shared import RESULTS, machine, parser_of, write_json
from sedma_jax import comm, memory

GROWTH = 0.1
STEADY = ("node-0", "node-3")
FIELDS = ("rss_MB", "pss_MB", "descriptors", "mappings", "threads")
JUDGED = ("rss_MB", "descriptors", "mappings")


def sampled(daemons: list[Daemon], seconds: float) -> dict:
    """The time, and the figures of each process; those of workers are added up."""
    found: dict = {"t": round(seconds, 1)}
    for daemon in daemons:
        found[daemon.name] = daemon.figures()
    each = [figures_of(worker.pid) for worker in daemons[-1].workers()]
    alive = [figures for figures in each if figures]
    found["workers"] = [round(sum(f), 1) for f in zip(*alive, strict=True)] or None
    found["most_mappings"] = max((figures[3] for figures in alive), default=0)
    return found


def slopes(samples: list[dict], names: list[str]) -> dict:
    """Growth over the second half by a fitted line, as a share of the mean there."""
    half = samples[len(samples) // 2 :]
    found: dict = {}
    for name in (*STEADY, "service", "all"):
        members = names if name == "all" else [name]
        usable = [s for s in half if all(s[member] for member in members)]
        times = np.array([s["t"] for s in usable])
        found[name] = {}
        for field in JUDGED:
            at = FIELDS.index(field)
            values = np.array([sum(s[m][at] for m in members) for s in usable])
            slope, _ = np.polyfit(times, values, 1)
            rise = float(slope * (times[-1] - times[0]))
            found[name][field] = {
                "mean": round(float(values.mean()), 1),
                "rise": round(rise, 2),
                "share": round(rise / float(values.mean()), 4),
            }
    return found


def soaked(folder: Path, seconds: float, every: float, out: Path) -> dict:
    """Run everything for some seconds; the record.

    What is known so far is in a file beside `out`, for runs that do not get to their end.
    """
    friends = [comm.key_id(folder / f"{name}.key") for name in ("friend", "checker")]
    nodes = five_nodes(folder, friends)
    service = job_service(folder, comm.key_id(folder / "client.key"))
    daemons, samples = [*nodes, service], []
    try:
        for daemon in daemons:
            daemon.start()
        load = Load(nodes, service, folder, seconds)
        with running(load):
            while load.elapsed < seconds and not load.stop.wait(every):
                samples.append(sampled(daemons, load.elapsed))
                if len(samples) % 20 == 0:
                    print(f"{load.elapsed:.0f} s: {dict(load.tensors.counts)}", flush=True)
                    write_json(out.with_suffix(".part.json"), so_far(load, samples))
        ran = load.elapsed
        for i, daemon in enumerate(nodes):
            if i % 2:  # the others answer as they are
                daemon.kill()
                daemon.start()
            held = [t for t in load.tensors.accepted if t[2] == i]
            load.verify(i, held, AT_END)
        with memory.open(f"sqlite:///{folder / 'memory.db'}") as learnt:
            rewards = sum(p.count for p in learnt.patterns("partition"))
        ended_alone = [daemon.name for daemon in daemons if daemon.ended_alone]
        ended_alone += [daemon.name for daemon in daemons if daemon.ends]
    finally:
        for daemon in daemons:
            daemon.kill()
    return so_far(load, samples) | {
        "jobs": dict(load.jobs) | {"rewards": rewards},
        "ended_alone": ended_alone,
        "growth": slopes(samples, [daemon.name for daemon in daemons]),
        "seconds": round(ran, 1),
    }


def so_far(load: Load, samples: list[dict]) -> dict:
    """What is known while it runs."""
    counts = load.tensors.counts
    return {
        "seconds": round(load.elapsed, 1),
        "tensors": dict(sorted(counts.items())),
        "lost": counts["lost"],
        "corrupt": len(load.tensors.corrupt),
        "jobs": dict(load.jobs),
        "kills": dict(load.kills),
        "unexpected": load.unexpected,
        "refusals": dict(load.tensors.errors.most_common(20)),
        "bound": GROWTH,
        "fields": FIELDS,
        "samples": samples,
    }


def failures(record: dict) -> list[str]:
    """What did not come out as a node promises."""
    jobs = record["jobs"]
    found = [
        f"{name}: {record[name]}"
        for name in ("lost", "corrupt", "ended_alone", "unexpected")
        if record[name]
    ]
    if not jobs.get("accepted") == jobs.get("done") == jobs["rewards"]:
        found.append(f"jobs: {jobs}")
    if jobs.get("failed") or jobs.get("wrong"):
        found.append(f"jobs failed or wrong: {jobs}")
    found += [
        f"{name} {field} rises by {figures['share']:.1%}"
        for name, fields in record["growth"].items()
        for field, figures in fields.items()
        if figures["share"] > GROWTH
    ]
    return found


def plot(record: dict, path: Path) -> None:
    """Memory, descriptors and mappings over time, one line for each process."""
    figure, axes = plt.subplots(3, 1, figsize=(9, 9), sharex=True, layout="constrained")
    labels = ("resident memory (MB)", "descriptors", "memory mappings")
    names = [n for n in record["samples"][0] if n not in ("t", "most_mappings")]
    for axis, field, label in zip(axes, JUDGED, labels, strict=True):
        at = FIELDS.index(field)
        for name in names:
            points = [
                (s["t"] / 60, s[name][at] if s[name] else None) for s in record["samples"]
            ]
            steady = name in STEADY
            axis.plot(*zip(*points, strict=True), lw=1.8 if steady else 0.8, label=name)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0 if axis is not axes[-1] else None)
    axes[-1].set_yscale("log")
    axes[-1].set_ylim(500, 2e5)
    axes[-1].set_xlabel("minutes")
    axes[0].legend(ncols=4, fontsize=8, title="never killed: node-0, node-3")
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close("all")


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--every", type=float, default=15, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS / "soak.json")
    parser.add_argument("--plot", type=Path, default=RESULTS / "soak.png")
    options = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        started = time.monotonic()
        record = soaked(Path(folder), options.seconds, options.every, options.out)
        record = {"machine": about, "failures": failures(record)} | record
        print(f"{time.monotonic() - started:.0f} s with the checks at the end")
    write_json(options.out, record)
    options.out.with_suffix(".part.json").unlink(missing_ok=True)
    plot(record, options.plot)
    shown = ("seconds", "tensors", "lost", "corrupt", "jobs", "kills", "failures")
    for name in shown:
        print(f"{name}: {record[name]}")
    raise SystemExit(1 if record["failures"] else 0)


if __name__ == "__main__":
    main()
