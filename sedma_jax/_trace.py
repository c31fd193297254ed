"""The stages of a run: how long each took, and its outcome."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ._files.whole_files import replacing

Watch = Callable[[str, bool], None]
"""Called with the name of a stage, and whether it has ended."""


class Trace:
    """Records of stages in the order in which they began.

    **Arguments:**

    - `watch`: called when a stage begins and again when it ends.
    """

    def __init__(self, watch: Watch | None = None):
        self.records: list[dict[str, Any]] = []
        self._origin, self._watch, self._first = time.perf_counter(), watch, 0

    def part(self) -> "Trace":
        """The same trace, but its `seconds` count only stages that begin from now on."""
        part = Trace(self._watch)
        part.records, part._origin = self.records, self._origin
        part._first = len(self.records)
        return part

    def follow(self, earlier: list[dict[str, Any]]) -> None:
        """Put the records of an earlier process before these, and their clock too."""
        end = max((r["start"] + r["seconds"] for r in earlier), default=0.0)
        for record in self.records:
            record["start"] += end
        self._origin -= end
        self._first += len(earlier)
        self.records[:0] = earlier

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a stage; the block adds its outcome to the dictionary.

        If the stage fails, the field `failed` holds the reason.
        """
        start = time.perf_counter()
        record = {"stage": name, "start": start - self._origin, "seconds": 0.0}
        self.records.append(record)
        if self._watch is not None:
            self._watch(name, False)
        try:
            yield record
        except BaseException as error:
            record["failed"] = one_line(error)
            raise
        finally:
            record["seconds"] = time.perf_counter() - start
            if self._watch is not None:
                self._watch(name, True)

    def seconds(self) -> dict[str, float]:
        """Wall time of each stage."""
        total: dict[str, float] = {}
        for record in self.records[self._first :]:
            name = record["stage"]
            total[name] = total.get(name, 0.0) + record["seconds"]
        return total


def one_line(error: BaseException) -> str:
    """The message of an error in one line, or the name of its class."""
    return " ".join(str(error).split()) or type(error).__name__


def write_chrome_trace(path: str | Path, records: list[dict[str, Any]]) -> None:
    """Write stages as trace events, for `chrome://tracing` and Perfetto."""
    events = [
        {
            "name": record["stage"],
            "ph": "X",  # a complete event; times in microseconds
            "ts": 1e6 * record["start"],
            "dur": 1e6 * record["seconds"],
            "pid": 1,
            "tid": 1,
            "args": {
                name: value
                for name, value in record.items()
                if name not in ("stage", "start", "seconds")
            },
        }
        for record in records
    ]
    with replacing(Path(path)) as part:
        part.write_text(json.dumps({"traceEvents": events}, allow_nan=False) + "\n")
