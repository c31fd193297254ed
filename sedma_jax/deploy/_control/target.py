"""A cluster to deploy to, and what came of it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Target:
    """A cluster, and how to roll out there.

    - `kubeconfig`: file; found as kubectl finds it if left out.
    - `context`: of that file.
    - `timeout`: seconds within which all replicas have to be ready.
    - `lost_after`: seconds of silence after which a node counts as lost.
    - `force`: whether to take fields that others manage.

    **Raises:** `ValueError` for a negative number of seconds.

    **Example:**

        >>> target = sj.deploy.Target(context="staging", timeout=60)
        >>> target.kubeconfig is None, target.lost_after  # as kubectl finds it; seconds
        (True, 30.0)
        >>> sj.deploy.Target(timeout=-1)
        Traceback (most recent call last):
        ValueError: `Target` needs `timeout` of 0 seconds or more. Got -1. ...
    """

    kubeconfig: str | None = None
    context: str | None = None
    timeout: float = 300.0
    lost_after: float = 30.0
    force: bool = False

    def __post_init__(self):
        for name in ("timeout", "lost_after"):
            if not (value := getattr(self, name)) >= 0:
                raise ValueError(
                    f"`Target` needs `{name}` of 0 seconds or more. Got {value}. Leave it "
                    "out for the default."
                )


@dataclasses.dataclass(frozen=True)
class Applied:
    """What came of a roll-out.

    - `ready`: the number of replicas that are ready, which is all of them.
    - `placement`: the node of every replica; empty if the workflow names no nodes.
    - `objects`: how many objects were created, changed, pruned and left the same.

    **Example:**

        >>> applied = sj.deploy.Applied(1, {"crossbar-0": "localhost"}, {"create": 6})
        >>> applied.ready == len(applied.placement)
        True
    """

    ready: int
    placement: dict[str, str]
    objects: dict[str, int]
