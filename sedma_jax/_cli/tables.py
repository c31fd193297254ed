"""Tables that fit: nothing in them is ever cut."""

import shutil
import sys
from collections.abc import Collection, Sequence


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    title: str = "",
) -> None:
    """Print a table, or each row as a list of its fields where the terminal is too narrow.

    A file or a pipe has any width. Cells are data, not markup; they may have several lines.
    The columns in `right` are aligned to the right.
    """
    from rich.console import Console  # not needed to declare the options
    from rich.table import Column, Table

    def console(width: int) -> Console:
        return Console(width=width, markup=False, emoji=False, highlight=False)

    def column(heading: str) -> Column:
        return Column(
            heading, justify="right" if heading in right else "left", overflow="fold"
        )

    table = Table(*map(column, headings))
    for row in rows:
        table.add_row(*row)
    needed = console(10**6).measure(table).maximum
    width = max(needed, len(title))
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
    out = console(width)
    if title:
        out.print(title)
    if needed <= width:
        out.print(table)
        return
    for row in rows:
        fields = Table.grid(column(""), column(""), padding=(0, 2, 0, 0))
        for heading, cell in zip(headings, row, strict=True):
            fields.add_row(heading, cell)
        out.print(fields)
        print()
