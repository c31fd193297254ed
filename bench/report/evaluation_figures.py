"""The parts of a table of the report, and how figures are read from records."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A measured figure: its bench, and how it is read from the record of that."""

    bench: str
    read: Callable[[Any], list[float] | None]
    simulated: bool = False


@dataclass(frozen=True)
class Column:
    """A column, and whether higher values are better."""

    name: str
    higher_is_better: bool


@dataclass(frozen=True)
class Row:
    """A row: the paper's figures, and the measured ones for the same columns."""

    name: str
    paper: tuple[float | None, ...]
    figures: tuple[Figure | None, ...]
    stands_for: str = ""


@dataclass(frozen=True)
class Table:
    """A table; `ours` names the row that the others are compared with."""

    title: str
    ours: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


EFFICIENCY = Column("memory efficiency, %", True)
LATENCY = Column("latency, ms", False)
THROUGHPUT = Column("throughput, products/s", True)
ADAPTATION = Column("adaptation, min", False)
UTILISATION = Column("resource utilisation, %", True)
RESILIENCE = Column("resilience, of 10", True)
ACCURACY = Column("peer selection, %", True)
CACHE = Column("cache hits, %", True)
BANDWIDTH = Column("bandwidth, GB/h", False)
DIGITS = Column("digits, %", True)
RECOVERY = Column("decisions until recovered", False)


def of(bench: str, method: str, name: str, scale: float = 1, simulated: bool = False):
    """A figure that the record of a bench has under `figures`, as a list over seeds."""
    return Figure(
        bench, lambda r: [scale * v for v in r["figures"][method][name]], simulated
    )


def efficiency(method):
    return of("system", method, "efficiency", 100)


def throughput(method):
    return of("system", method, "throughput")


def routed(method, name, scale=1):
    return of("routing", method, name, scale, simulated=True)


def disturbed(arm: str, name: str, scale: float = 1, only: str | None = None) -> Figure:
    """The mean over the three disturbances, or one of them, per seed."""

    def read(record):
        scenarios = record["scenarios"]
        rows = [scenarios[s][arm][name] for s in ([only] if only else scenarios)]
        return [scale * sum(values) / len(values) for values in zip(*rows, strict=True)]

    return Figure("disturbances", read)


def adaptation(arm: str, only: str | None = None) -> Figure:
    """Minutes until adapted, or the horizon."""
    return disturbed(arm, "adaptation_s", 1 / 60, only)


def resilience(arm: str) -> Figure:
    """Ten times the throughput retained, as a mean over the three disturbances."""
    return disturbed(arm, "retained", 10)


def phase(variant: str, name: str, scale: float = 1) -> Figure:
    """A figure of phases that recur, each in a process of its own."""
    return of("phase_shift", f"{variant}, restart, later", name, scale)


def weights(rule: str, phase: str) -> Figure:
    """Shares of right choices, or requests until relearnt, by a rule of `peer_weights`."""

    def read(record):
        found = record["accuracy"][rule][phase]
        return found if phase == "relearnt" else [100 * v for v in found["each"]]

    return Figure("peer_weights", read)


def recovery(variant: str) -> Figure:
    """Decisions until a change of devices is recovered from, or the horizon."""

    def read(record):
        rows = [r for r in record["rows"] if r["variant"] == variant]
        return [
            r["recovery"] if r["recovery"] is not None else record["after"] for r in rows
        ]

    return Figure("device_change", read)
