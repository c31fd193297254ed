"""What the package asks of a memory, so that nothing imports the extra `memory` for it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class LongTermMemory(Protocol):
    """A long-term memory of rewards, such as `sedma_jax.memory.Memory`.

    It may be called from several threads, one at a time.
    """

    def recall(self, kind: str, workload: str) -> Sequence[Any]:
        """Patterns of a class of workloads, the highest mean reward first."""
        ...

    def nearest(self, kind: str, features: Any, k: int = 8) -> Sequence[Any]:
        """The `k` patterns of a kind whose features are nearest, nearest first."""
        ...

    def record(
        self,
        kind: str,
        workload: str,
        choice: Mapping[str, Any],
        reward: Any,
        *,
        features: Any = None,
    ) -> None:
        """Add a reward of one choice."""
        ...

    def record_all(self, records: Iterable[Any]) -> None:
        """Add `(kind, workload, choice, reward, features)`, all of them or none."""
        ...

    def forget(
        self,
        kind: str,
        workload: str | None = None,
        choice: Mapping[str, Any] | None = None,
    ) -> int:
        """Delete the patterns of a kind, a workload, or one choice; their number."""
        ...


@runtime_checkable
class ShortTermMemory(Protocol):
    """A short-term memory of statistics, such as `sedma_jax.memory.ShortTerm`."""

    def add(self, **samples: float) -> "ShortTermMemory":
        """A memory with one more sample of each statistic."""
        ...
