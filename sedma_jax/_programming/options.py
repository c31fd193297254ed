"""How a matrix is programmed: one record, for every function that programs."""

import dataclasses
import math
from collections.abc import Callable, Mapping as Mapping_
from functools import partial
from typing import Any, TypedDict, Unpack

import equinox as eqx
from jaxtyping import Array, Float

from ..kernels import (
    Scheme,
    VerifyRule,
    check_callable,
    check_counts,
    check_kind,
    column_scale,
    differential,
    global_scale,
    gradient_programming,
    hadamard_verify,
    offset,
    one_of,
    open_loop,
    rewrite_and_verify,
    sampled_rewrite,
    shown,
    tile_scale,
    whole,
    write_and_verify,
)

_MAPPINGS = {"differential": differential, "offset": offset}
_SCALINGS = {
    "global_scale": global_scale,
    "tile_scale": tile_scale,
    "column_scale": column_scale,
}
_SCHEMES = {
    "write_and_verify": write_and_verify,
    "hadamard_verify": hadamard_verify,
    "gradient_programming": gradient_programming,
    "open_loop": open_loop,
    "rewrite_and_verify": rewrite_and_verify,
    "sampled_rewrite": sampled_rewrite,
}
_CELLS = 2**30

Scaling = Callable[[Float[Array, "tiles rows cols"]], Float[Array, "tiles cols"]]
Mapping = Callable[[Float[Array, "rows cols"]], Float[Array, "polarity rows cols"]]
Progress = Callable[[int, int], None]


def array_of(call: str, array: Any) -> tuple[int, int]:
    """The size of one array; one number is that of a square one.

    **Raises:**

    - `ValueError`: if it is not two whole numbers of at least 1, or too large.
    """
    sides = (array, array) if whole(array) is not None else array
    sides = sides if isinstance(sides, tuple | list) else ()
    numbers = [whole(side) or 0 for side in sides]
    if len(numbers) != 2 or min(numbers) < 1:
        raise ValueError(
            f"`{call}` needs `array` to be at least one row and one column, as two whole "
            f"numbers. Got {shown(array)}. Write `array=(256, 256)`: word lines, bit lines."
        )
    if numbers[0] * numbers[1] >= _CELLS:
        raise ValueError(
            f"`{call}` needs `array` of fewer than {_CELLS:,} cells, which are numbered in "
            f"32 bits. Got {shown(array)}. Use more and smaller arrays."
        )
    return numbers[0], numbers[1]


def _function(name: str, known: Mapping_[str, Callable]) -> Callable[[str, Any], Any]:
    """How to take an option that is a function, or the name of one of ours."""

    def take(call: str, value: Any) -> Any:
        if isinstance(value, str):
            return known[one_of(call, name, value, known)]
        wanted = f"a function, such as {', '.join(f'`{k}`' for k in known)}"
        check_callable(call, wanted, "Or pass its name.", **{name: value})
        return value

    return take


mapping_of = _function("mapping", _MAPPINGS)
scaling_of = _function("scaling", _SCALINGS)
scheme_of = _function("scheme", _SCHEMES)
encoding_of = _function("encoding", _SCHEMES)


def rule_of(call: str, rule: Any) -> Any:
    """A stopping rule, or None."""
    if rule is not None:
        remedy = "Write `rule=sedma_jax.stagnation()`, or leave it out."
        check_kind(call, VerifyRule, "a `sedma_jax.VerifyRule`", remedy, rule=rule)
    return rule


def _arrays_of(call: str, arrays: Any) -> int | None:
    remedy = "Leave it out for as many arrays as there are tiles."
    if arrays is not None:
        check_counts(call, 1, math.inf, remedy, arrays=arrays)
    return whole(arrays)


_TAKE = {
    "array": array_of,
    "arrays": _arrays_of,
    "mapping": mapping_of,
    "scaling": scaling_of,
    "scheme": scheme_of,
    "rule": rule_of,
}


def _field(name: str, default: Any, *, static: bool = True) -> Any:
    take = partial(_TAKE[name], "sedma_jax.Programming")
    return eqx.field(static=static, default=default, converter=take)


class Programming(eqx.Module):
    """How a matrix is programmed, for `program` and all that programs.

    Every function that takes such a record takes its fields as keywords too, which
    overrule those of the record.

    - `array`: word lines (inputs) and bit lines (outputs) of one array; one number for a
        square one.
    - `arrays`: arrays there are; as many as there are tiles if None.
    - `mapping`: `differential` (two cells per weight) or `offset` (one).
    - `scaling`: `global_scale`, `tile_scale` or `column_scale`.
    - `scheme`: `write_and_verify`, `hadamard_verify`, `gradient_programming`,
        `open_loop`, `rewrite_and_verify` or `sampled_rewrite`, or a function like them.
    - `rule`: when cells are done; `acceptance_band(device)` if None, or `stagnation()`.

    Functions of ours may be given by name, such as `scheme="open_loop"`.

    **Raises:** `ValueError` for a field that is none of these.

    **Example:**

        >>> how = sj.Programming(array=(64, 64), scheme="open_loop")
        >>> A, key = np.eye(4), jr.key(0)
        >>> crossbar, _ = sj.program(A, "epiram", how, array=4, key=key)  # 4 instead of 64
        >>> crossbar.array
        (4, 4)
    """

    array: tuple[int, int] = _field("array", (256, 256))
    arrays: int | None = _field("arrays", None)
    mapping: Mapping = _field("mapping", differential)
    scaling: Scaling = _field("scaling", column_scale)
    scheme: Scheme | Callable = _field("scheme", write_and_verify)
    rule: VerifyRule | None = _field("rule", None, static=False)


class ProgrammingOptions(TypedDict, total=False):
    """The fields of `Programming`, as keywords."""

    array: tuple[int, int] | int
    arrays: int | None
    mapping: Mapping | str
    scaling: Scaling | str
    scheme: Scheme | Callable | str
    rule: VerifyRule | None


_FIELDS = tuple(field.name for field in dataclasses.fields(Programming))
_DEFAULT = Programming()


def programming_from(
    call: str, record: Programming | None, **options: Unpack[ProgrammingOptions]
) -> Programming:
    """The record, with the keywords of a call put in.

    **Raises:**

    - `TypeError`: if a keyword is no field of the record.
    - `ValueError`: if the value of one is none that it can have.
    """
    unknown = [name for name in options if name not in _FIELDS]
    if unknown:
        raise TypeError(
            f"`sedma_jax.{call}` has no option {', '.join(map(repr, unknown))}. "
            f"Those of programming are {', '.join(_FIELDS)}."
        )
    how = _DEFAULT if record is None else record
    check_kind(
        f"sedma_jax.{call}",
        Programming,
        "a `sedma_jax.Programming`",
        "Options of one call are keywords, such as `array=(128, 128)`.",
        programming=how,
    )
    # Here too, so that an error names the call.
    taken = {name: _TAKE[name](f"sedma_jax.{call}", v) for name, v in options.items()}
    return dataclasses.replace(how, **taken) if taken else how
