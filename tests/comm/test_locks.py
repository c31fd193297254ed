"""Locks that are taken at once, and the budget of bytes."""

import pytest
import trio
import trio.testing

from sedma_jax.comm._libp2p.uncontended_lock import held
from sedma_jax.comm._rpc import body_memory
from sedma_jax.comm._rpc.messages import MessageError


def run_at_once(main):
    """Run with a clock that jumps to the next deadline when all tasks wait."""
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


LOCKS = pytest.mark.parametrize("make", [trio.Lock, lambda: trio.Semaphore(1)])


@LOCKS
def test_a_free_lock_is_taken_before_anybody_else_runs(make):
    async def main():
        lock, others = make(), []

        async def other():
            others.append("ran")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(2):  # whoever yields once may still be the next to run
                async with held(lock):
                    pass
            assert not others
        assert others

    trio.run(main)


@LOCKS
def test_those_who_wait_are_served_in_order(make):
    happened = []

    async def one(name, lock):
        async with held(lock):
            happened.append(f"{name} in")
            await trio.testing.wait_all_tasks_blocked()
            happened.append(f"{name} out")

    async def main():
        lock = make()
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(one, name, lock)
                await trio.lowlevel.checkpoint()  # so that tasks start in this order

    trio.run(main)
    assert happened == ["a in", "a out", "b in", "b out", "c in", "c out"]


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


class Trickle:
    """A stream whose bytes come when the others have had their turn."""

    def __init__(self, ends=None):
        self.ends, self.come = ends, 0

    async def fill(self, buffer):
        if self.ends is not None and self.come >= self.ends:
            await trio.sleep_forever()
        await trio.sleep(0.01)
        self.come += len(buffer)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(body_memory, "BUDGET", 60)
    monkeypatch.setattr(body_memory, "BUDGET_IN_ALL", 100)
    monkeypatch.setattr(body_memory, "PIECE", 10)


def test_memory_of_bodies_is_bounded_and_everybody_is_served(small):
    async def main():
        memory, peak, served = body_memory.BodyMemory(), 0, []

        async def one(peer, count):
            nonlocal peak
            async with memory.body(Trickle(), count, peer) as body:
                assert len(body) == count
                peak = max(peak, memory._used.total())
                assert memory._used[peer] <= 60 + 50  # the budget, and one body more
                await trio.testing.wait_all_tasks_blocked()
            served.append(count)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for peer in "abc":
                    for count in (50, 50, 30, 1, 50, 10):
                        nursery.start_soon(one, peer, count)
        assert peak <= 100 + 50 and len(served) == 18
        assert not memory._used and not memory._holdings

    run_at_once(main)


def test_who_stalls_or_gives_up_takes_nothing_from_the_memory(small):
    async def main():
        memory, failed = body_memory.BodyMemory(), []

        async def stall(ends):
            try:
                async with memory.body(Trickle(ends), 50, "stranger"):
                    pytest.fail("came")
            except MessageError:
                failed.append(ends)

        async def stall_and_others():
            async with trio.open_nursery() as nursery:
                for ends in (40, 20):
                    nursery.start_soon(stall, ends)
                await trio.sleep(0.5)
                for peer in "abc":
                    async with memory.body(Trickle(), 50, peer) as body:
                        assert len(body) == 50
                async with (
                    memory.body(Trickle(), 50, "a"),
                    memory.body(Trickle(), 50, "b"),
                ):
                    assert failed

        with trio.fail_after(200):
            await stall_and_others()
        assert sorted(failed) == [20, 40] and not memory._used
        with trio.move_on_after(1):
            async with memory.body(Trickle(20), 50, "a"):
                pytest.fail("came")
        assert not memory._used and not memory._holdings

    run_at_once(main)
