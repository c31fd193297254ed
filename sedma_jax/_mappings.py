"""Forget compiled programs before a process runs out of memory mappings.

XLA maps memory for each program that it compiles for a CPU: some 20 mappings for a product,
500 for a loop of write-and-verify. Linux grants 65,530 in all (`vm.max_map_count`), and
where none is left the compiler ends the process. A sweep over thousands of shapes would get
there; programs are compiled again if they are needed again.
"""

import gc
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import jax
from jax import monitoring

RESERVE = 8192
"""Mappings that a job of new shapes may need: ten of them took 8,238."""

_SHARE = 0.15  # of all mappings, above which programs are forgotten; 2 GB or so of memory
_OFTEN = 16  # programs compiled from one count of the mappings to the next

_COMPILED = "/jax/core/compile/backend_compile_duration"


@runtime_checkable
class _Forgets(Protocol):
    def clear_cache(self) -> None: ...


Program = TypeVar("Program")

_programs: list[_Forgets] = []
_compiled = 0


def forgettable(program: Program) -> Program:
    """Have `leave_room` forget what a function of `jax.jit` has compiled."""
    # JAX declares no type for what `jax.jit` returns, which has this method.
    _programs.append(cast(_Forgets, program))
    return program


def _count(event: str, *_: Any, **__: Any) -> None:
    global _compiled
    _compiled += event == _COMPILED


monitoring.register_event_duration_secs_listener(_count)


def leave_room() -> None:
    """Forget our programs if the mappings of this process run low."""
    global _compiled
    if _compiled < _OFTEN:
        return
    _compiled = 0
    used, most = mappings()
    if used > _SHARE * most:
        for program in _programs:
            program.clear_cache()
        gc.collect()  # a program goes with its last reference


def make_room(reserve: int) -> bool:
    """Forget all compiled programs if fewer mappings than `reserve` are left.

    `leave_room` forgets ours, and when half of all mappings are used; here other libraries
    may have taken them. **Returns:** whether as many are left in the end.
    """
    used, most = mappings()
    if used and most - used < reserve:
        jax.clear_caches()
        gc.collect()
        used, most = mappings()
    return not used or most - used >= reserve


def mappings() -> tuple[int, int]:
    """Mappings in use, and those there may be; none in use where Linux does not say."""
    try:
        used = Path("/proc/self/maps").read_bytes().count(b"\n")
        return used, int(Path("/proc/sys/vm/max_map_count").read_text())
    except OSError:
        return 0, 1
