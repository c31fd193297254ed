"""Locks that are taken at once, and the budget of bytes."""

import pytest
import trio
import trio.testing

from sedma_jax.comm._libp2p.uncontended_lock import held
from sedma_jax.comm._rpc.methods import ByteBudget


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


def test_a_budget_is_never_exceeded_and_everybody_is_served():
    async def main():
        budget, in_hand, peak, served = ByteBudget(100), 0, 0, []

        async def one(count):
            nonlocal in_hand, peak
            async with budget.held(count):
                in_hand += min(count, 100)
                peak = max(peak, in_hand)
                await trio.testing.wait_all_tasks_blocked()
                in_hand -= min(count, 100)
            served.append(count)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for count in (60, 60, 30, 1000, 100, 10):  # 1000 takes all of it
                    nursery.start_soon(one, count)
        assert peak <= 100 and sorted(served) == [10, 30, 60, 60, 100, 1000]

    run_at_once(main)


def test_who_gives_up_waiting_for_a_budget_takes_nothing_from_it():
    async def main():
        budget = ByteBudget(100)
        with trio.fail_after(5):
            async with budget.held(100):
                with trio.move_on_after(1) as gave_up:
                    async with budget.held(1):
                        pytest.fail("got in")
            assert gave_up.cancelled_caught
            async with budget.held(100):
                pass

    run_at_once(main)
