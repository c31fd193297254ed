"""Tables that fit: nothing in them is ever cut."""

import shutil
import sys
from collections.abc import Collection, Iterable, Sequence


def figure(value: float | None, form: str = ".3g") -> str:
    """A number in a table; `overflow` for None, which JSON has in place of infinity."""
    return "overflow" if value is None else format(value, form)


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    title: str = "",
) -> None:
    """Print a table in the form that fits the terminal; a file or a pipe has any width.

    If the table is too wide it is turned on its side, and if that is too wide as well, each
    row becomes a list of its fields. Cells are data, not markup; they may have several
    lines. The columns in `right` are aligned to the right.
    """
    from rich.console import Console  # not needed to declare the options
    from rich.table import Column, Table

    def console(width: int) -> Console:
        return Console(width=width, markup=False, emoji=False, highlight=False)

    def columns(names: Sequence[str], right: Collection[str]) -> list[Column]:
        return [
            Column(name, justify="right" if name in right else "left", overflow="fold")
            for name in names
        ]

    def table(
        names: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str]
    ) -> Table:
        table = Table(*columns(names, right))
        for row in rows:
            table.add_row(*row)
        return table

    forms = [table(headings, rows, right)]
    if len(rows) > 1:
        (corner, *names), *turned = zip(headings, *rows, strict=True)
        forms.append(table([corner, *names], turned, names))
    needed = [console(10**6).measure(form).maximum for form in forms]
    width = max(needed[0], len(title))
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
    out = console(width)
    if title:
        out.print(title)
    for form, wide in zip(forms, needed, strict=True):
        if wide <= width:
            out.print(form)
            return
    for number, row in enumerate(rows):
        fields = Table.grid(*columns(["", ""], ()), padding=(0, 2, 0, 0))
        for heading, cell in zip(headings, row, strict=True):
            fields.add_row(heading, cell)
        if number:
            out.print()
        out.print(fields)
