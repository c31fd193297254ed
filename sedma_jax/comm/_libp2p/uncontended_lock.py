"""Take a lock that nobody holds without yielding to the event loop."""

import trio


class held:
    """`async with held(lock)`, without the pass of the event loop of `async with lock`.

    A call takes half a dozen locks, which are nearly always free. Waiting tasks still get
    the lock in order, and a cancelled task does not get it. The code under the lock must
    yield to other tasks itself.
    """

    def __init__(self, lock: trio.Lock | trio.Semaphore):
        self._lock = lock

    async def __aenter__(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *error: object) -> None:
        self._lock.release()
