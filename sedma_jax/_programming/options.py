"""How a matrix is programmed: one record, for every function that programs."""

import dataclasses
from collections.abc import Callable
from typing import TypedDict, Unpack

import equinox as eqx
from jaxtyping import Array, Float

from ..kernels import (
    Scheme,
    VerifyRule,
    column_scale,
    differential,
    write_and_verify,
)

Scaling = Callable[[Float[Array, "tiles rows cols"]], Float[Array, "tiles cols"]]
Mapping = Callable[[Float[Array, "rows cols"]], Float[Array, "polarity rows cols"]]
Progress = Callable[[int, int], None]


class Programming(eqx.Module):
    """How a matrix is programmed, for `program` and all that programs.

    Every function that takes such a record takes its fields as keywords too, which
    overrule those of the record:

    ```python
    >>> import jax, numpy as np, sedma_jax as sj
    >>> how = sj.Programming(array=(64, 64), scheme=sj.open_loop)
    >>> A, key = np.eye(8), jax.random.key(0)
    >>> crossbar, _ = sj.program(A, sj.devices.EPIRAM, how, key=key)
    >>> crossbar, _ = sj.program(A, sj.devices.EPIRAM, how, array=(8, 8), key=key)
    >>> crossbar.array
    (8, 8)

    ```

    - `array`: word lines (inputs) and bit lines (outputs) of one array.
    - `arrays`: arrays there are; as many as there are tiles if None.
    - `mapping`: `differential` (two cells per weight) or `offset` (one).
    - `scaling`: `global_scale`, `tile_scale` or `column_scale`.
    - `scheme`: `write_and_verify`, `hadamard_verify`, `gradient_programming`,
        `open_loop`, `rewrite_and_verify` or `sampled_rewrite`, or a function like them.
    - `rule`: when cells are done; `acceptance_band(device)` if None, or `stagnation()`.
    """

    array: tuple[int, int] = eqx.field(static=True, default=(256, 256))
    arrays: int | None = eqx.field(static=True, default=None)
    mapping: Mapping = eqx.field(static=True, default=differential)
    scaling: Scaling = eqx.field(static=True, default=column_scale)
    scheme: Scheme | Callable = eqx.field(static=True, default=write_and_verify)
    rule: VerifyRule | None = None


class ProgrammingOptions(TypedDict, total=False):
    """The fields of `Programming`, as keywords."""

    array: tuple[int, int]
    arrays: int | None
    mapping: Mapping
    scaling: Scaling
    scheme: Scheme | Callable
    rule: VerifyRule | None


_FIELDS = tuple(field.name for field in dataclasses.fields(Programming))
_DEFAULT = Programming()


def programming_from(
    call: str, record: Programming | None, **options: Unpack[ProgrammingOptions]
) -> Programming:
    """The record, with the keywords of a call put in.

    **Raises:**

    - `TypeError`: if a keyword is no field of the record.
    """
    unknown = [name for name in options if name not in _FIELDS]
    if unknown:
        raise TypeError(
            f"`sedma_jax.{call}` has no option {', '.join(map(repr, unknown))}. "
            f"Those of programming are {', '.join(_FIELDS)}."
        )
    how = _DEFAULT if record is None else record
    return dataclasses.replace(how, **options) if options else how
