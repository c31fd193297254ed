"""Know a point of a study, and the function that is measured there, by their content.

Two processes give the same digest to equal values, whichever objects hold them. A function
is known by its code, by what it closes over, and by the globals that it names; functions
and classes of other packages are known by their names.
"""

import dis
import functools
import hashlib
import inspect
import types
from collections.abc import Iterable, Mapping, Set
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

_PLAIN = bool | int | float | complex | str | bytes | None


def function_digest(function: Any) -> str:
    """Digest of a function and of all that it computes with, but for its arguments."""
    home = (getattr(function, "__module__", None) or "").partition(".")[0]
    content = _Content({home, "__main__"})
    for part in (function, version("sedma-jax"), jax.config.read("jax_enable_x64")):
        content.add(part)
    return content.digest()


def value_digest(value: Any) -> str:
    """Digest of a value."""
    content = _Content({"__main__"})
    content.add(value)
    return content.digest()


class _Content:
    """Feeds a hash with the content of objects, each only once.

    - `own`: names of the packages whose functions are known by their code.
    """

    def __init__(self, own: set[str]):
        self.own, self.hash = own, hashlib.sha256()
        # They are held, so that no other object gets the id of one.
        self.seen: dict[int, tuple[int, Any]] = {}

    def digest(self) -> str:
        return self.hash.hexdigest()[:32]

    def add(self, thing: Any) -> None:
        if isinstance(thing, _PLAIN):
            self._text(type(thing).__name__, repr(thing))
            return
        if id(thing) in self.seen:
            self._text("again", str(self.seen[id(thing)][0]))
            return
        self.seen[id(thing)] = len(self.seen), thing
        if isinstance(thing, jax.Array | np.ndarray | np.generic):
            self._array(thing)
        elif isinstance(thing, Mapping):
            keys = sorted(thing, key=repr)
            self._parts("mapping", [part for key in keys for part in (key, thing[key])])
        elif isinstance(thing, list | tuple | range):
            self._parts(type(thing).__name__, thing)
        elif isinstance(thing, Set):
            self._parts("set", sorted(thing, key=repr))
        elif isinstance(thing, functools.partial):
            self._parts("partial", (thing.func, thing.args, thing.keywords))
        elif isinstance(thing, types.MethodType):
            self._parts("method", (thing.__func__, thing.__self__))
        elif isinstance(thing, types.CodeType):
            self._text("code", thing.co_name, repr(thing.co_names))
            self._parts(thing.co_code.hex(), thing.co_consts)
        elif isinstance(thing, types.ModuleType):
            self._text("module", thing.__name__)
        elif isinstance(thing, type) or hasattr(thing, "__qualname__"):
            self._named(inspect.unwrap(thing))
        else:
            self._parts("object", (type(thing), getattr(thing, "__dict__", None)))

    def _text(self, *words: str) -> None:
        for word in words:
            # The length keeps apart what would read the same once it is joined.
            self.hash.update(f"{len(word)}:{word}".encode("utf-8", "surrogatepass"))

    def _parts(self, kind: str, parts: Iterable[Any]) -> None:
        parts = list(parts)
        self._text(kind, str(len(parts)))
        for part in parts:
            self.add(part)

    def _array(self, array: Any) -> None:
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            self._text("key", str(jr.key_impl(array)))
            array = jr.key_data(array)
        values = np.asarray(array)
        if values.dtype.hasobject:
            self._parts("objects", values.ravel().tolist())
            return
        self._text("array", str(values.dtype), str(values.shape))
        self.hash.update(np.ascontiguousarray(values).data)

    def _named(self, thing: Any) -> None:
        """A class or a function."""
        home = getattr(thing, "__module__", None) or ""
        self._text("name", home, thing.__qualname__)
        if home.partition(".")[0] not in self.own:
            return
        if isinstance(thing, type):
            methods = {n: m for n, m in vars(thing).items() if inspect.isfunction(m)}
            self._parts("class", (*thing.__bases__, methods))
        elif inspect.isfunction(thing):
            cells = [c.cell_contents for c in thing.__closure__ or () if _filled(c)]
            named = sorted(_names(thing.__code__))
            known = {n: thing.__globals__[n] for n in named if n in thing.__globals__}
            inside = thing.__defaults__, thing.__kwdefaults__, cells, known
            self._parts("function", (thing.__code__, *inside))


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _names(code: types.CodeType) -> set[str]:
    """Names of globals that a function and those inside it look up."""
    looked_up = ("LOAD_GLOBAL", "LOAD_NAME")
    own = {str(i.argval) for i in dis.get_instructions(code) if i.opname in looked_up}
    inside = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return own.union(*map(_names, inside))
