"""Measure at every point, and keep what was found."""

import inspect
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from .._arguments import check_progress
from .._programming.options import Progress
from .._progress import progress_bar
from ..kernels import check_callable, check_counts, check_kind, shown
from ._content import function_digest, value_digest
from ._mapped import Measure, measured, split
from ._points import Named, plain
from ._results import Figures, append_results, read_results
from ._table import Row, Table

_CALL = "sedma_jax.study.run"


class _Task(NamedTuple):
    """One function and the points at which it is measured, by their keys."""

    measure: Measure
    points: dict[str, tuple[Row, Row]]  # labels and values


def run(
    measure: Measure | Sequence[Measure],
    points: Sequence[Mapping[str, Any]],
    *,
    file: str | os.PathLike[str] | None = None,
    mapped: Collection[str] | None = None,
    batch: int = 16,
    callback: Callable[[Row], Any] | None = None,
    progress: Progress | None = None,
) -> Table:
    """Measure figures at every point of a study.

    Parameters with numbers in all points (also devices and other records of numbers) are
    mapped over by `jax.vmap`, up to `batch` points at a time in one compiled program, if
    `measure` takes them as traced values: seeds, bits, times, figures of devices. A loop
    goes over all others, such as sizes of arrays, and over devices of different form.

    With a `file` every result is kept as it comes, and a study that is started again
    measures only what is not there. A result is known by its content: the values of the
    point, the code of `measure`, and the numbers and arrays that it closes over or reads as
    globals. After a change of one of them it is measured anew. Functions of other modules
    are known by name alone, and sedma_jax by its version. One study at a time may write to
    a file.

    **Arguments:**

    - `measure`: function of the parameters, by name, that returns numbers by name, such as
        `{"error": ..., "energy": ...}`. Of several functions each takes the parameters that
        it needs, and is called once for each combination of those.
    - `points`: from `grid` or `random`, or dictionaries of one's own.
    - `file`: the results, lines of JSON; made if it is not there.
    - `mapped`: the parameters that may be mapped over; all by default, none if empty.
    - `batch`: points in a call of a compiled program, which need memory together.
    - `callback`: called with each row that is new, as it comes: parameters and figures.
        Such as the `log` of a run of Weights & Biases.
    - `progress`: called with the results there and the results in all. By default a bar is
        on stderr, if that is a terminal, after a second.

    **Returns:**

    A `Table` with a row for each point, in their order: its parameters, then its figures.

    **Raises:**

    - `ValueError`: if there is no point; if a parameter of `measure` is none of the points,
        or the other way round; if it returns something else than numbers by name; if `file`
        holds something else. What `measure` raises goes on with a note of the point.

    **Example:**

        >>> A, x = np.eye(4), np.ones(4)
        >>> def measure(size, bits, seed):
        ...     crossbar = sj.program_exactly(A, "epiram", array=size)
        ...     y = sj.matvec(crossbar, x, adc=sj.ADC(bits), key=jr.key(seed))
        ...     return {"error": jnp.max(jnp.abs(y - 1))}
        >>> points = sj.study.grid(size=[2, 4], bits=[4, 8], seed=range(3))
        >>> table = sj.study.run(measure, points, file="study.jsonl")
        >>> len(table), bool(table["error"].max() < 1e-5)  # equal currents fill the range
        (12, True)
        >>> again = sj.study.run(measure, points, file="study.jsonl")  # measures nothing
        >>> again == table
        True
    """
    measures = [measure] if callable(measure) else list(measure)
    wanted = "a function of parameters of the points"
    for one in measures:
        check_callable(_CALL, wanted, "Of several pass a list.", measure=one)
    check_counts(_CALL, 1, math.inf, "It is a number of points.", batch=batch)
    check_progress("study.run", progress)
    if callback is not None:
        check_callable(_CALL, "a function of a row", "Leave it out.", callback=callback)
    labels, values = _split(points)
    taken = [_parameters(one, labels[0]) for one in measures]
    _check_parameters(measures, taken, labels[0], mapped)

    tasks, keys = [], []
    for one, names in zip(measures, taken, strict=True):
        about = function_digest(one)
        own = [value_digest([about, *(v[n] for n in names)]) for v in values]
        tasks.append(
            _Task(
                one,
                {
                    key: ({n: at[n] for n in names}, {n: v[n] for n in names})
                    for key, at, v in zip(own, labels, values, strict=True)
                },
            )
        )
        keys.append(own)
    path = None if file is None else Path(file)
    found = {} if path is None else read_results(path)
    count = sum(len(task.points) for task in tasks)
    bar = progress_bar("study", "results", total=lambda: count)
    with nullcontext(progress) if progress is not None else bar as report:
        _measure_all(tasks, found, path, mapped, batch, callback, report)
    rows = []
    for row, *own in zip(labels, *keys, strict=True):
        figures: Row = {}
        for key in own:
            _check_names(row, figures, found[key])
            figures |= found[key]
        rows.append(row | figures)
    return Table(rows, tuple(labels[0]))


def _measure_all(
    tasks: Sequence[_Task],
    found: dict[str, Figures],
    path: Path | None,
    mapped: Collection[str] | None,
    batch: int,
    callback: Callable[[Row], Any] | None,
    report: Progress | None,
) -> None:
    """Add what is missing to `found`, and to the file."""
    every = [key for task in tasks for key in task.points]
    done = sum(key in found for key in every)
    for task in tasks:
        missing = [key for key in task.points if key not in found]
        if not missing:
            continue
        values = [task.points[key][1] for key in missing]
        every_value = [value for _, value in task.points.values()]
        how = split(task.measure, every_value, mapped)
        for part in measured(task.measure, values, how, batch):
            new = [(missing[place], figures) for place, figures in part]
            for key, figures in new:
                _check_names(task.points[key][0], {}, figures)
            if path is not None:
                append_results(path, [(k, task.points[k][0], f) for k, f in new])
            found.update(new)
            done += len(new)
            if callback is not None:
                for key, figures in new:
                    callback(task.points[key][0] | figures)
            if report is not None:
                report(done, len(every))


def _split(points: Sequence[Mapping[str, Any]]) -> tuple[list[Row], list[Row]]:
    """Labels and values of each point."""
    points = list(points)
    remedy = "Make points by `sedma_jax.study.grid`."
    for point in points:
        check_kind(_CALL, Mapping, "dictionaries", remedy, points=point)
    if not points or not points[0]:
        raise ValueError(f"`{_CALL}` needs a point with a parameter. Got none. {remedy}")
    labels, values = [], []
    for point in points:
        if set(point) != set(points[0]):
            raise ValueError(
                f"`{_CALL}` needs the same parameters at every point. Got "
                f"{', '.join(point)} beside {', '.join(points[0])}. Study them one after "
                "the other."
            )
        given = {name: point[name] for name in points[0]}
        for name, value in given.items():
            if value is not None and not isinstance(value, Named) and plain(value) is None:
                raise ValueError(
                    f"`{_CALL}` needs a label for each `{name}` that is no number and no "
                    f"text. Got {shown(value)}. Use `sedma_jax.study.Named(label, value)`."
                )
        named = {n: v for n, v in given.items() if isinstance(v, Named)}
        bare = {n: plain(v) for n, v in given.items() if n not in named}
        labels.append({n: named[n].label if n in named else bare[n] for n in given})
        values.append({n: named[n].value if n in named else bare[n] for n in given})
    return labels, values


def _parameters(measure: Measure, point: Row) -> list[str]:
    """The parameters of the points that a function takes."""
    given = inspect.signature(measure).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in given):
        return list(point)
    named = [p for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for parameter in given:
        needed = parameter.default is parameter.empty
        lost = parameter not in named or parameter.name not in point
        if needed and lost and parameter.kind is not parameter.VAR_POSITIONAL:
            raise ValueError(
                f"`{_CALL}` needs each parameter of `measure` at every point. Got none of "
                f"`{parameter.name}`. There are {', '.join(point)}."
            )
    names = {parameter.name for parameter in named}
    return [name for name in point if name in names]


def _check_parameters(
    measures: Sequence[Measure],
    taken: Sequence[Sequence[str]],
    point: Row,
    mapped: Collection[str] | None,
) -> None:
    """Refuse a column that is no parameter of any function."""
    if isinstance(mapped, str):
        raise ValueError(f"`{_CALL}` needs `mapped` to be names. Got {mapped!r}. List it.")
    used = set().union(*taken)
    for name in point:
        if name not in used:
            raise ValueError(
                f"`{_CALL}` needs each column of the points to be a parameter of "
                f"`measure`. Got `{name}`. It takes {', '.join(sorted(used)) or 'none'}."
            )
    for name in mapped or ():
        if name not in point:
            raise ValueError(
                f"`{_CALL}` needs `mapped` to name parameters of the points. Got {name!r}. "
                f"There are {', '.join(point)}."
            )
    if not measures:
        raise ValueError(f"`{_CALL}` needs something to measure. Got []. Pass a function.")


def _check_names(point: Row, other: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
    """Refuse a figure with the name of a parameter, or of a figure of another function."""
    twice = next((name for name in figures if name in point or name in other), None)
    if twice is not None:
        raise ValueError(
            f"`{_CALL}` needs names of figures that nothing else has. Got `{twice}` twice. "
            "Rename the figure."
        )
