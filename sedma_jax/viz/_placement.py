"""A picture of the nodes of a cluster, and of the agents on them."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ._style import BLUE, GREY, ORANGE


def placement_map(
    shares: Sequence[Mapping], edges: Sequence[tuple[str, str, float]]
) -> Figure:
    """Draw on which node each replica is placed, and the edges between agents.

    **Arguments:**

    - `shares`: from `sedma_jax.deploy.node_shares`.
    - `edges`: source, target and MB per second of every edge.

    **Returns:**

    A figure with a column for each node, headed by its used fractions of memory and CPU.
    An edge is drawn between all replicas of its agents; its width grows with its traffic.

    **Example:**

        >>> node = {"node": "n0", "memory": 0.5, "cpu": 0.25}  # shares in use
        >>> node["replicas"] = ["front-0", "back-0"]
        >>> figure = sj.viz.placement_map([node], [("front", "back", 2.0)])  # 2 MB/s
        >>> figure.savefig("placement.png")
    """
    tallest = max([1, *(len(share["replicas"]) for share in shares)])
    figure = Figure(figsize=(max(3, 1.6 * len(shares)), 1.2 + 0.5 * tallest))
    axis = figure.subplots()
    places = {}
    for column, share in enumerate(shares):
        title = f"{share['node']}\n{share['memory']:.0%} memory\n{share['cpu']:.0%} CPU"
        axis.text(column, -1, title, ha="center", va="center", fontsize=8)
        for row, replica in enumerate(share["replicas"]):
            agent = replica.rpartition("-")[0]
            places.setdefault(agent, []).append((column, row))
            axis.text(
                *(column, row),
                replica,
                ha="center",
                va="center",
                fontsize=8,
                bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": BLUE},
            )
    most = max([volume for *_, volume in edges], default=1.0)
    for source, target, volume in edges:
        for start in places.get(source, []):
            for end in places.get(target, []):
                colour = GREY if start[0] == end[0] else ORANGE
                xs, ys = zip(start, end, strict=True)
                axis.plot(xs, ys, color=colour, lw=0.5 + 2.5 * volume / most, zorder=0)
    axis.set(xlim=(-0.6, len(shares) - 0.4), ylim=(tallest - 0.4, -1.8))
    axis.axis("off")
    return figure
