"""The case studies of the report, in the form of its tables."""

from bench.report.evaluation_figures import (
    ACCURACY,
    EFFICIENCY,
    THROUGHPUT,
    Column,
    Figure,
    Row,
    Table,
    disturbed,
    of,
    phase,
)


def of_classes(method: str, name: str, scale: float = 1) -> Figure:
    return of("heterogeneity", method, name, scale, simulated=True)


def placed(rule: str, name: str, scale: float = 1) -> Figure:
    return Figure("heterogeneity", lambda r: [scale * v for v in r["placing"][rule][name]])


def lost(arm: str, name: str, scale: float = 1) -> Figure:
    return disturbed(arm, name, scale, only="node loss")


def cut(arm: str, name: str, scale: float = 1) -> Figure:
    return of("network_partition", arm, name, scale)


def relative(variant: str, how: str, part: str = "later") -> Figure:
    """Adaptation latency in % of that without long-term memory, seed by seed."""

    def read(record):
        figures = record["figures"]
        ours = figures[f"{variant}, {how}, {part}"]["seconds"]
        reactive = figures[f"no long-term, {how}, {part}"]["seconds"]
        return [100 * a / b for a, b in zip(ours, reactive, strict=True)]

    return Figure("phase_shift", read)


WORKLOADS = ("image", "classification", "question answering")

CASE_STUDIES = (
    Table(
        title="Case study: matrices of three workloads",
        ours="ours",
        columns=(
            EFFICIENCY,
            THROUGHPUT,
            *(Column(f"error of a product, {name}, %", False) for name in WORKLOADS),
        ),
        rows=tuple(
            Row(
                name,
                (None,) * 5,
                (
                    of("workloads", key, "efficiency", 100),
                    of("workloads", key, "throughput"),
                    *(of("workloads", key, of_what, 100) for of_what in WORKLOADS),
                ),
                said,
            )
            for name, key, said in (
                ("ours", "full", ""),
                (
                    "static RRAM",
                    "static RRAM",
                    "256 x 256 tiles, smoothing parameter 1e-12",
                ),
                ("Ray", "Ray", "exact products on two CPU cores"),
                ("PyTorch distributed", "torch.distributed", "the same, by gloo"),
            )
        ),
        notes=(
            "Patches of a photograph by a filter, the kernel of digits by weights of a "
            "class, a layer of MiniLM by the vector of a word: matrices of 1024 rows and "
            "more from data that packages bring. The paper gives no figures. Every product "
            "programs its matrix anew. Ray and PyTorch are exact, in float32.",
            "Ours takes arrays of 128 x 128 of TaOx/HfOx, which are written faster; the "
            "fixed tiling has the pool's 256 x 256 of EpiRAM, which are more exact. Eq. 4 "
            "weighs seconds and memory, not errors.",
        ),
    ),
    Table(
        title="Case study: three classes of nodes, peers",
        ours="ours",
        columns=(
            Column("latency, ms", False),
            Column("p99, ms", False),
            ACCURACY,
            Column("tensors served by the strongest third, %", True),
        ),
        rows=tuple(
            Row(
                name,
                (None,) * 4,
                (
                    of_classes(key, "mean_ms"),
                    of_classes(key, "p99_ms"),
                    of_classes(key, "accuracy", 100),
                    of_classes(key, "strong_share", 100),
                ),
                said,
            )
            for name, key, said in (
                ("ours", "full", ""),
                ("weights that are never learnt", "static weights", ""),
                ("DHT-only", "DHT only", ""),
                ("random peers", "random", "without adaptive peer selection"),
            )
        ),
        notes=(
            "The paper gives no figures. Nodes of 32, 16 and 8 cores, each class by a "
            "direct line, a NAT and a relay in equal parts; the lines are assumed.",
        ),
    ),
    Table(
        title="Case study: three classes of nodes, placement",
        ours="ours",
        columns=(
            Column("communication cost, Eq. 12", False),
            Column("resource utilisation, %", True),
        ),
        rows=tuple(
            Row(
                name,
                (None, None),
                (placed(key, "communication"), placed(key, "utilisation", 100)),
                said,
            )
            for name, key, said in (
                ("ours", "full", ""),
                ("classes unknown", "classes unknown", "as if all were the mean node"),
                ("Kubernetes native", "default scheduler's rule", "LeastAllocated"),
            )
        ),
        notes=("The paper gives no figures.",),
    ),
    Table(
        title="Case study: training, inference, aggregation",
        ours="ours",
        columns=(
            Column("latency of adaptation, % of that without long-term memory", False),
            Column("the same when the phases are new, %", False),
            Column("the same when one process goes on, %", False),
            Column("decisions until adapted", False),
            Column("ms until adapted", False),
            Column("good decisions, %", True),
        ),
        rows=tuple(
            Row(
                name,
                paper,
                (
                    relative(key, "restart"),
                    relative(key, "restart", "first"),
                    relative(key, "one process"),
                    phase(key, "decisions"),
                    phase(key, "seconds", 1000),
                    phase(key, "good", 100),
                ),
                said,
            )
            for name, key, paper, said in (
                ("ours", "full", (33.0, *(None,) * 5), ""),
                (
                    "without long-term memory",
                    "no long-term",
                    (100.0, *(None,) * 5),
                    "what the paper calls reactive",
                ),
                ("without short-term memory", "no short-term", (None,) * 6, ""),
                ("without both", "neither", (None,) * 6, ""),
            )
        ),
        notes=(
            "The paper says that long-term memory takes away 67 %. Each phase is a process "
            "of its own, as jobs are, unless stated otherwise. Latency is the wall time of "
            "the decisions until one from which on three in four are good; phases that "
            "never reach it count in full.",
        ),
    ),
    Table(
        title="Case study: node failures",
        ours="ours",
        columns=(
            Column("throughput kept, %", True),
            Column("recovery, min", False),
            Column("pods replaced", False),
        ),
        rows=tuple(
            Row(
                name,
                paper,
                (
                    lost(key, "retained", 100),
                    lost(key, "adaptation_s", 1 / 60),
                    lost(key, "moved"),
                ),
                said,
            )
            for name, key, paper, said in (
                ("ours", "sedma", (89.0, 2.8, None), ""),
                ("without long-term memory", "no long-term", (None,) * 3, ""),
                ("static deployment", "static", (34.0, None, None), "no controller"),
                ("Kubernetes native", "default", (None,) * 3, "LeastAllocated"),
            )
        ),
        notes=(
            "The fullest node of ten is lost. Throughput kept is the mean over the minute "
            "from then on, recovery included, over the arm's own before. No recovery in "
            "60 s counts as 60 s. Pods start in 1 s on the double of the control plane, "
            "while the paper's minutes are those of a real cluster.",
        ),
    ),
    Table(
        title="Case study: a zone is cut off",
        ours="ours",
        columns=(
            Column("function kept, %", True),
            Column("in the zone cut off, %", True),
            Column("healed after, s", False),
        ),
        rows=tuple(
            Row(
                name,
                paper,
                (
                    cut(key, "kept", 100),
                    cut(key, "kept_small_side", 100),
                    cut(key, "healed_s"),
                ),
                said,
            )
            for name, key, paper, said in (
                ("ours", "full", (76.0, None, None), "two copies in different zones"),
                ("zones unknown", "no zones", (None,) * 3, "two copies wherever"),
                ("without replicas", "no replicas", (None,) * 3, "one copy, and caches"),
                (
                    "neither replicas nor cache",
                    "neither",
                    (23.0, None, None),
                    "what the paper calls without adaptive memory management",
                ),
            )
        ),
        notes=(
            "Six real nodes in network namespaces, a zone of two against the other four. "
            "Function is the share of requests for tensors that are answered within 5 s.",
        ),
    ),
)
