"""A progress bar on stderr, where that is a terminal, of work over a second."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column


@contextmanager
def progress_bar(
    title: str,
    unit: str = "partitions",
    *,
    total: Callable[[], int] = lambda: 0,
    rounds: int = 1,
) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on stderr if that is a terminal and the work takes over a second.

    **Arguments:**

    - `total`: what one round counts to, or 0 while that is not known; called only if
        there is a bar.
    - `rounds`: how often the work counts from the start.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    width = min(40, max(4, console.width - 40))  # the text goes first
    columns = text("{task.description}"), BarColumn(width), text("{task.fields[counted]}")
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(title, total=None, counted="")
    before, last = 0, -1

    def report(done: int, whole: int) -> None:
        nonlocal before, last
        if rounds > 1 and done <= last:
            before += whole
        last = done
        done, whole = before + done, rounds * whole
        bar.update(task, completed=done, total=whole, counted=f"{done:,}/{whole:,} {unit}")

    if count := total():
        report(0, count)
    with after_a_second(bar):
        yield report


def text(form: str) -> TextColumn:
    """A column that wraps where the terminal is narrow."""
    return TextColumn(form, table_column=Column(overflow="fold"), markup=False)


@contextmanager
def after_a_second(bar: Progress) -> Iterator[None]:
    """Show a display while the block runs, unless that takes less than a second."""
    timer = threading.Timer(1.0, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        bar.stop()
