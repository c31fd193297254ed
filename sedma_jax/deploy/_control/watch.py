"""The loop of `sedma deploy watch`: lead, keep what was applied, measure, place anew."""

import threading
import time
from collections.abc import Callable

from .apply import lease_of
from .cluster import ClusterError
from .controller import Controller, RolloutFailed
from .lease import LeaseLost
from .recompile import Recompiler

_RETRY = 1.0  # seconds after a failure
_SHORTEST = 0.5  # seconds between two looks at the cluster
_AGAIN = 60.0  # seconds until a line is said again


def watch(
    controller: Controller,
    recompiler: Recompiler,
    *,
    interval: float,
    said: Callable[[str], None],
    ended: threading.Event,
) -> None:
    """Keep a deployment as its record wants it, until `ended` is set.

    While another controller leads, this one stands by. A failure is reported, and the loop
    begins again with the lease.

    **Arguments:**

    - `controller`: of the workflow.
    - `recompiler`: what measures, and places the workflow anew.
    - `interval`: seconds between measurements.
    - `said`: told what happens, one line each time.
    - `ended`: set when the loop is to end; `KeyboardInterrupt` ends it, too.
    """
    if not interval >= 0:
        raise ValueError(
            f"`sedma deploy watch` needs --interval of 0 seconds or more. Got {interval}. "
            "Leave it out for 10."
        )
    rounds = _Rounds(controller, recompiler, interval, said)
    try:
        while not ended.is_set():
            try:
                rounds.lead(ended)
            except (ClusterError, LeaseLost, RolloutFailed) as error:
                rounds.say(str(error))
                ended.wait(_RETRY)
    except KeyboardInterrupt:
        return


class _Rounds:
    """Leads again and again; when the next measurement is due outlasts a lost lease."""

    def __init__(
        self,
        controller: Controller,
        recompiler: Recompiler,
        interval: float,
        said: Callable[[str], None],
    ):
        self._controller, self._recompiler = controller, recompiler
        self._interval, self._to = interval, said
        self._due = 0.0
        self._last: dict[str, float] = {}  # when each line was said
        controller.said = self.say

    def say(self, line: str) -> None:
        """Say a line, unless it was said within the last minute."""
        now = time.monotonic()
        self._last = {k: at for k, at in self._last.items() if now - at < _AGAIN}
        if line not in self._last:
            self._last[line] = now
            self._to(line)

    def lead(self, ended: threading.Event) -> None:
        """Wait for the lease, then keep the deployment while it is held."""
        lease = lease_of(self._controller)
        if (holder := lease.try_acquire()) is not None:
            self.say(f"stands by: {holder} leads")
        lease.acquire(float("inf"))
        self.say("leads")
        try:
            self._controller.resume()
            while not ended.is_set():
                self._settle_and_measure()
                left = self._due - time.monotonic()
                self._controller.wait(max(_SHORTEST, left))
        finally:
            lease.release()

    def _settle_and_measure(self) -> None:
        status = self._controller.settle()
        if not status.settled:
            self.say("not ready: " + "; ".join(status.problems))
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + self._interval
            if done := self._recompiler.tick():
                self.say(done)
