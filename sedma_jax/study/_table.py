"""The table of a study: a row for each point, with its parameters and its figures."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..kernels import shown

Row = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]

_SHOWN = 40  # rows


class Table(tuple[Row, ...]):
    """Rows of a study, each a dictionary; it prints as a table.

    - `parameters`: names of the columns that say where a row was measured.

    `table["error"]` is a column. `pandas.DataFrame(table)` accepts it directly.

    **Example:**

        >>> points = sj.study.grid(x=[1.0, 2.0])
        >>> table = sj.study.run(lambda x: {"square": x * x}, points)
        >>> print(table)
          x   square
         ────────────
          1        1
          2        4
        >>> print(table["square"])
        [1. 4.]
    """

    parameters: tuple[str, ...]

    def __new__(cls, rows: Rows, parameters: Sequence[str] = ()):
        table = super().__new__(cls, (dict(row) for row in rows))
        table.parameters = tuple(parameters)
        return table

    def __getitem__(self, place: Any) -> Any:
        if not isinstance(place, str):
            return super().__getitem__(place)
        check_columns("Table", self, (place,))
        return columns(self)[place]

    def __getnewargs__(self):
        return tuple(self), self.parameters

    def __repr__(self):
        from rich import box  # not needed to compute
        from rich.console import Console
        from rich.table import Table as Grid

        names = list(dict.fromkeys(name for row in self for name in row))
        grid = Grid(box=box.SIMPLE_HEAD)
        for name in names:
            text = any(isinstance(row.get(name), str) for row in self)
            grid.add_column(name, justify="left" if text else "right")
        for row in self[:_SHOWN]:
            grid.add_row(*(_text(row.get(name)) for name in names))
        text = io.StringIO()
        # Under Jupyter rich would display the table, and write nothing to the file.
        console = Console(
            file=text, width=1000, force_jupyter=False, force_terminal=False, markup=False
        )
        console.print(grid)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        rest = [f" ... {len(self) - _SHOWN:,} more rows"] if len(self) > _SHOWN else []
        return "\n".join([line for line in lines if line] + rest)


def columns(table: Rows) -> dict[str, np.ndarray]:
    """The columns of a table as arrays, by name; those of texts have objects.

    **Example:**

        >>> rows = [{"bits": 4, "error": 0.1}, {"bits": 8, "error": 0.01}]
        >>> found = sj.study.columns(rows)
        >>> print(found["bits"], found["error"])
        [4 8] [0.1  0.01]
    """
    names = dict.fromkeys(name for row in table for name in row)
    return {name: _column([row.get(name) for row in table]) for name in names}


def _column(values: list[Any]) -> np.ndarray:
    if all(isinstance(v, bool | int | float) for v in values):
        return np.array(values)
    column = np.empty(len(values), object)
    column[:] = values
    return column


def select(table: Table, **wanted: Any) -> Table:
    """The rows in which some columns have some values.

    **Raises:** `ValueError` for a column that the table has not.

    **Example:**

        >>> points = sj.study.grid(x=[1, 2], y=[3, 4])
        >>> table = sj.study.run(lambda x, y: {"sum": x + y}, points)
        >>> print(sj.study.select(table, x=2)["sum"])
        [5 6]
    """
    check_columns("select", table, wanted)
    rows = [row for row in table if all(row[n] == value for n, value in wanted.items())]
    return Table(rows, table.parameters)


def average(table: Table, over: str | Sequence[str]) -> Table:
    """Mean and spread of each figure over some parameters, such as seeds.

    **Arguments:**

    - `over`: the parameters that are averaged over.

    **Returns:**

    A row for each combination of the other parameters, in the order of their first rows:
    `NAME` is the mean of a figure, `NAME_std` its sample standard deviation (NaN of one
    row), and `rows` is their number.

    **Raises:** `ValueError` for what is no parameter of the table.

    **Example:**

        >>> points = sj.study.grid(x=[1.0, 2.0], seed=[0, 2])
        >>> table = sj.study.run(lambda x, seed: {"y": x + seed}, points)
        >>> print(sj.study.average(table, over="seed"))
          x   y   y_std   rows
         ──────────────────────
          1   2   1.414      2
          2   3   1.414      2
    """
    over = (over,) if isinstance(over, str) else tuple(over)
    strangers = [name for name in over if name not in table.parameters]
    if strangers:
        raise ValueError(
            "`sedma_jax.study.average` needs `over` to name parameters of the table. Got "
            f"{strangers[0]!r}. There are {', '.join(table.parameters)}."
        )
    kept = [name for name in table.parameters if name not in over]
    groups: dict[tuple, list[Row]] = {}
    for row in table:
        groups.setdefault(tuple(row[name] for name in kept), []).append(row)
    figures = [
        n for n in dict.fromkeys(n for r in table for n in r) if n not in table.parameters
    ]
    found = []
    for place, rows in groups.items():
        new: Row = dict(zip(kept, place, strict=True))
        for name in figures:
            values = np.array([row[name] for row in rows], float)
            new[name] = float(values.mean())
            new[f"{name}_std"] = float(values.std(ddof=1)) if len(rows) > 1 else np.nan
        found.append(new | {"rows": len(rows)})
    return Table(found, kept)


def pareto(
    table: Rows, *, lower: str | Sequence[str] = (), higher: str | Sequence[str] = ()
) -> Table:
    """The rows that no other beats, as good in all of some columns and better in one.

    **Arguments:**

    - `lower`: columns of which less is better, such as energy and error.
    - `higher`: columns of which more is better, such as accuracy.

    **Returns:**

    The Pareto front, sorted by the first of these columns. Rows with NaN are not on it.

    **Raises:** `ValueError` for a column that the table has not, or if none is named.

    **Example:**

        >>> rows = [dict(energy=e, accuracy=a) for e, a in [(1, 0.5), (2, 0.9), (3, 0.8)]]
        >>> best = sj.study.pareto(rows, lower="energy", higher="accuracy")
        >>> [row["energy"] for row in best]
        [1, 2]
    """
    lower, higher = ((n,) if isinstance(n, str) else tuple(n) for n in (lower, higher))
    if not lower + higher:
        raise ValueError(
            "`sedma_jax.study.pareto` needs columns to be better in. Got none. Such as "
            "`lower='energy', higher='accuracy'`."
        )
    check_columns("pareto", table, lower + higher)
    costs = np.array(
        [[r[n] for n in lower] + [-r[n] for n in higher] for r in table], float
    )
    front = np.flatnonzero(not_beaten(costs))
    order = front[np.argsort(costs[front, 0], kind="stable")]
    return Table([table[i] for i in order], getattr(table, "parameters", ()))


def not_beaten(costs: np.ndarray) -> np.ndarray:
    """Which rows of costs no other row is at most equal to in all, and below in one."""
    beaten = [
        np.any(np.all(costs <= own, axis=1) & np.any(costs < own, axis=1)) for own in costs
    ]
    return ~np.array(beaten, bool) & ~np.isnan(costs).any(axis=1)


def check_columns(call: str, table: Rows, names: Sequence[str] | Mapping) -> None:
    """Refuse names of columns that a table has not."""
    there = dict.fromkeys(name for row in table for name in row)
    for name in names:
        if name not in there:
            raise ValueError(
                f"`sedma_jax.study.{call}` needs columns of the table. Got {shown(name)}. "
                f"There are {', '.join(there)}."
            )


def _text(value: Any) -> str:
    return format(value, ".4g") if isinstance(value, float) else str(value)
