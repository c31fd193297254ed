"""Locks that are taken at once where nobody holds them."""

import trio


class held:
    """`async with held(lock)`, without the turn of the loop that `async with lock` costs.

    A call passes half a dozen locks, which are nearly always free. Who waits is served in
    order, as ever, and who is cancelled does not get in; what is done under the lock must
    itself let others run.
    """

    def __init__(self, lock: trio.Lock | trio.Semaphore):
        self._lock = lock

    async def __aenter__(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *error) -> None:
        self._lock.release()
