"""The tables of the report: the paper's figures, and where the measured ones stand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """Where a measured figure stands: a bench, and how its record is read."""

    bench: str
    read: Callable[[Any], list[float] | None]
    simulated: bool = False


@dataclass(frozen=True)
class Column:
    """A column, and which end of it is better."""

    name: str
    higher_is_better: bool


@dataclass(frozen=True)
class Row:
    """A row: the paper's figures, and the measured ones of the same columns."""

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
RECOVERY = Column("decisions until recovered", False)


def of(bench: str, method: str, name: str, scale: float = 1, simulated: bool = False):
    """A list over seeds in a record of `figures`."""
    return Figure(
        bench, lambda r: [scale * v for v in r["figures"][method][name]], simulated
    )


def efficiency(method):
    return of("system", method, "efficiency", 100)


def throughput(method):
    return of("system", method, "throughput")


def routed(method, name, scale=1):
    return of("routing", method, name, scale, simulated=True)


def adaptation(arm: str) -> Figure:
    """Minutes until adapted, over the three disturbances; none where one never was."""

    def read(record):
        times = [s[arm]["adaptation_s"] for s in record["scenarios"].values()]
        return None if None in times else [t / 60 for t in times]

    return Figure("recompile", read)


def resilience(arm: str) -> Figure:
    """Ten times the throughput retained when a node is lost."""
    return Figure(
        "recompile", lambda r: [10 * r["scenarios"]["node loss"][arm]["retained"]]
    )


def recovery(variant: str) -> Figure:
    """Decisions until a change of devices is recovered from; the horizon where never."""

    def read(record):
        rows = [r for r in record["rows"] if r["variant"] == variant]
        return [
            r["recovery"] if r["recovery"] is not None else record["after"] for r in rows
        ]

    return Figure("device_change", read)


OURS, REST = "ours", (None, None, None)
KUBERNETES = "Kubernetes native"

TABLES = (
    Table(
        "Table 1: against distributed frameworks and static RRAM",
        OURS,
        (
            EFFICIENCY,
            LATENCY,
            THROUGHPUT,
            Column("COCO, %", True),
            Column("ImageNet, %", True),
            Column("SQuAD F1", True),
        ),
        (
            *(
                Row(
                    name,
                    paper,
                    (efficiency(key), of("system", key, "latency"), throughput(key), *REST),
                    said,
                )
                for name, key, paper, said in (
                    (
                        "Ray",
                        "Ray",
                        (72.1, 245.3, 98.7, 84.2, 76.8, 88.4),
                        "two actors on this machine, equal shards of rows, exact products",
                    ),
                    (
                        "PyTorch distributed",
                        "torch.distributed",
                        (69.8, 267.1, 91.2, 83.7, 75.9, 87.9),
                        "gloo, two processes, equal shards of rows, exact products",
                    ),
                )
            ),
            Row(
                "static RRAM",
                (70.6, 298.4, 98.9, 84.0, 76.2, 88.1),
                (efficiency("static RRAM"), None, throughput("static RRAM"), *REST),
                "256 x 256 tiles, weight 1e-12; it has no network of its own",
            ),
            Row(
                OURS,
                (87.3, 171.2, 142.5, 85.1, 78.3, 89.7),
                (
                    efficiency("full"),
                    of("system", "full", "latency"),
                    throughput("full"),
                    *REST,
                ),
            ),
        ),
        (
            "Ray and PyTorch multiply exactly, on CPUs, and have no crossbars: memory "
            "efficiency is entries over entries of their padded shards, and throughput "
            "leaves out the simulation of programming that ours pays for.",
            "COCO, ImageNet and SQuAD are not in this repository, so that no accuracy on "
            "them is reported.",
            "Latency: 1 MiB from another process on loopback, hash checked.",
        ),
    ),
    Table(
        "Table 2: adaptability and communication",
        OURS,
        (ADAPTATION, UTILISATION, RESILIENCE, CACHE, BANDWIDTH, ACCURACY),
        (
            Row(
                KUBERNETES,
                (47.8, 64.2, 6.7, 58.3, 12.4, 71.2),
                (
                    adaptation("default"),
                    of("placing", "default scheduler's rule", "utilisation", 100),
                    resilience("default"),
                    *REST,
                ),
                "LeastAllocated, the default rule, on a double of the API server",
            ),
            Row(
                "static deployment",
                (52.1, 61.9, 6.1, 55.7, 13.8, 68.9),
                (adaptation("static"), None, resilience("static"), *REST),
                "our placement, no controller",
            ),
            Row(
                "libp2p",
                (41.2, 67.3, 7.2, 62.1, 11.7, 74.6),
                (
                    *REST,
                    None,
                    routed("DHT only", "gb_per_hour"),
                    routed("DHT only", "accuracy", 100),
                ),
                "by XOR distance alone",
            ),
            Row(
                OURS,
                (3.2, 82.7, 9.4, 78.9, 7.3, 86.2),
                (
                    adaptation("sedma"),
                    of("placing", "full", "utilisation", 100),
                    resilience("sedma"),
                    None,
                    routed("full", "gb_per_hour"),
                    routed("full", "accuracy", 100),
                ),
            ),
        ),
        (
            "Adaptation is over three disturbances, once each, not over seeds. An arm that "
            "did not adapt within 60 s to all of them has no figure: the horizon ended.",
            "Resilience is of node loss alone, one run; throughput in it is modelled by "
            "Eq. 12. Pods start in 1 s on the double: minutes of a real cluster differ.",
        ),
    ),
    Table(
        "Table 3: without parts of the memory",
        "full model",
        (EFFICIENCY, ADAPTATION, THROUGHPUT, RECOVERY),
        tuple(
            Row(
                name,
                paper,
                (efficiency(key), None, throughput(key), recovery(key)),
            )
            for name, key, paper in (
                ("full model", "full", (87.3, 3.2, 142.5, None)),
                ("without long-term memory", "no long-term", (71.4, 8.7, 118.3, None)),
                ("without short-term memory", "no short-term", (79.2, 5.1, 128.9, None)),
            )
        ),
        (
            "The last column is of the project, not of the paper: decisions until a device "
            "that became slow is avoided. A seed that never recovered counts as the "
            "horizon, which flatters it.",
        ),
    ),
    Table(
        "Table 4: without peer selection or recompilation",
        "full model",
        (LATENCY, UTILISATION, RESILIENCE),
        (
            Row(
                "full model",
                (171.2, 82.7, 9.4),
                (
                    routed("full", "mean_ms"),
                    of("placing", "full", "utilisation", 100),
                    resilience("sedma"),
                ),
            ),
            Row(
                "without adaptive peer selection",
                (234.8, 68.9, 7.1),
                (routed("random", "mean_ms"), None, None),
                "peers by lot",
            ),
            Row(
                "without recompilation",
                (189.3, 71.2, 6.8),
                (None, None, resilience("static")),
                "the placement stays",
            ),
        ),
        ("Latency is of the simulated network of Table 6.",),
    ),
    Table(
        "Table 5: error correction and optimisation",
        "full model",
        (Column("accuracy, %", True), EFFICIENCY, Column("epochs", False)),
        (
            Row("full model", (85.1, 87.3, 45.2), (None, efficiency("full"), None)),
            Row(
                "fixed weight 1e-12",
                (83.7, 82.1, 52.8),
                (None, efficiency("fixed lambda"), None),
            ),
            Row("static learning rate", (84.2, 84.6, 48.9), REST),
        ),
        (
            "What a fixed weight costs in error, by signal and material: see the plot of "
            "lambda_adaptation.",
        ),
    ),
    Table(
        "Table 6: routing",
        "full model",
        (ACCURACY, CACHE, BANDWIDTH, LATENCY),
        tuple(
            Row(
                name,
                paper,
                (
                    routed(key, "accuracy", 100),
                    None,
                    routed(key, "gb_per_hour"),
                    routed(key, "mean_ms"),
                ),
            )
            for name, key, paper in (
                ("full model", "full", (86.2, 78.9, 7.3, None)),
                ("DHT-only", "DHT only", (74.6, 62.1, 11.7, None)),
                ("random peers", "random", (68.3, 55.4, 13.2, None)),
            )
        ),
        (
            "Simulated, with parameters fitted to five real peers; the table of "
            "predictions below says how far off. A choice counts within 10 % of the best "
            "in hindsight.",
        ),
    ),
    Table(
        "Case studies",
        "ours",
        (
            Column("throughput kept after node loss, %", True),
            Column("recovery, min", False),
            Column("function kept in a partition, %", True),
            Column("three classes of nodes: communication cost", False),
        ),
        (
            Row(
                "ours",
                (89.0, 2.8, 76.0, None),
                (
                    Figure(
                        "recompile",
                        lambda r: [100 * r["scenarios"]["node loss"]["sedma"]["retained"]],
                    ),
                    Figure(
                        "recompile",
                        lambda r: [
                            r["scenarios"]["node loss"]["sedma"]["adaptation_s"] / 60
                        ],
                    ),
                    None,
                    of("placing", "full", "communication"),
                ),
            ),
            Row(
                "static or default",
                (34.0, None, 23.0, None),
                (
                    Figure(
                        "recompile",
                        lambda r: [100 * r["scenarios"]["node loss"]["static"]["retained"]],
                    ),
                    None,
                    None,
                    of("placing", "default scheduler's rule", "communication"),
                ),
                "static deployment; for the cost, the default scheduler's rule",
            ),
        ),
        ("Phase shift, -67 % in the paper: not measured; see Table 3's last column.",),
    ),
)
