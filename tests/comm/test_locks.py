"""Locks that are taken at once, in the order of those who wait."""

import pytest
import trio
import trio.testing

from sedma_jax.comm._locks import held


@pytest.mark.parametrize("make", [trio.Lock, lambda: trio.Semaphore(1)])
def test_a_free_lock_is_taken_at_once_and_others_wait_in_order(make):
    happened = []

    async def one(name, lock):
        happened.append(f"{name} asks")
        async with held(lock):
            happened.append(f"{name} in")
            await trio.testing.wait_all_tasks_blocked()
            happened.append(f"{name} out")

    async def main():
        lock = make()
        async with trio.open_nursery() as nursery:
            for name in "abc":
                await trio.lowlevel.checkpoint()  # so that tasks start in this order
                nursery.start_soon(one, name, lock)

    trio.run(main)
    assert happened[:2] == ["a asks", "a in"]
    order = [h for h in happened if not h.endswith("asks")]
    assert order == ["a in", "a out", "b in", "b out", "c in", "c out"]


def test_who_is_cancelled_does_not_get_in():
    async def main():
        lock = trio.Lock()
        with trio.CancelScope() as scope:
            scope.cancel()
            async with held(lock):
                pytest.fail("got in")
        assert scope.cancelled_caught and not lock.locked()

    trio.run(main)


def test_the_lock_is_free_after_an_error():
    async def main():
        lock = trio.Lock()
        with pytest.raises(LookupError):
            async with held(lock):
                raise LookupError
        assert not lock.locked()

    trio.run(main)
