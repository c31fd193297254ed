"""What `dir` shows of a module: the names that it is imported for."""

from collections.abc import Callable
from typing import Any


def later_names(module: dict[str, Any], *more: str) -> Callable[[], list[str]]:
    """The `__dir__` of a module that shows what the module gets after this call.

    Before it stand the imports that only the file itself needs:

        __dir__ = later_names(globals())

    **Arguments:**

    - `module`: its `globals()`.
    - `more`: names to show beside, which were there before or come when they are asked for.
    """
    # Kept in the module: where it is reloaded, its own names are there already.
    hidden = module.setdefault("_NOT_SHOWN", frozenset(module))
    shown = lambda: (n for n in module if n not in hidden and not n.startswith("_"))
    return lambda: sorted({*shown(), *more})
