"""Run an agent's function within its limits, whichever server took the request."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from .calls import call
from .limits import REQUESTS, THREADS, Full, room_of_this_process

Call = Callable[[str, bytes], bytes]
Entry = Callable[[bytes, Call], bytes]
FAILED = "the agent failed; its log says why"


class Agent:
    """An agent's function, its threads, and its room for bodies; of one event loop."""

    def __init__(self, entry: Entry):
        self._entry = entry
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="agent")
        self._requests = 0
        self.room = room_of_this_process()

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request until it is answered.

        **Raises:** `Full` beyond `REQUESTS`.
        """
        if self._requests >= REQUESTS:
            raise Full
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def answer(self, request: bytes) -> bytes | None:
        """The agent's answer; None if it failed, which its log explains."""
        loop = asyncio.get_running_loop()
        # A caller who leaves does not stop the thread: its room stays taken until it ends.
        work = loop.run_in_executor(self._threads, self._run, request)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    def _run(self, request: bytes) -> bytes | None:
        try:
            return bytes(self._entry(request, call))
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return None
