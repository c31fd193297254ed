"""Stop asking a server that does not answer, and find out in the background when it does.

While it is away nobody waits for it: one call found out, within its timeout, and a thread
asks again after a second, then after two, four and so on up to half a minute.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between two attempts


class Breaker:
    """Whether a server is asked.

    **Arguments:**

    - `probe`: asks the server whether it is back, and prepares it to be asked again.
    - `failure`: what `probe` and questions raise if it is away.
    - `failed`: told the first failure of every outage.
    """

    def __init__(
        self,
        probe: Callable[[], None],
        failure: type[Exception],
        failed: Callable[[Exception], None],
    ):
        self._probe, self._failure, self._failed = probe, failure, failed
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._probing: threading.Thread | None = None

    @property
    def away(self) -> bool:
        """Whether the server did not answer, and has not come back yet."""
        return self._probing is not None

    def ask(self, question: Callable[[], T]) -> T | None:
        """The answer, or None from a server that is away."""
        if self.away:
            return None
        try:
            return question()
        except self._failure as error:
            with self._lock:
                if self._probing is not None or self._ended.is_set():
                    return None
                thread = threading.Thread(target=self._until_back, daemon=True)
                self._probing = thread
                thread.start()
            self._failed(error)
            return None

    def close(self) -> None:
        """End the attempts."""
        self._ended.set()

    def _until_back(self) -> None:
        pause = _FIRST_PAUSE
        while not self._ended.wait(pause):
            try:
                self._probe()
            except self._failure:
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            break
        self._probing = None
