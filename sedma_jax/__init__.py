"""Simulate RRAM in-memory computing in JAX."""

import typing as _typing
from importlib import import_module as _import_module
from types import ModuleType as _ModuleType

# Each needs an extra.
_EXTRAS = ("comm", "data", "deploy", "linalg", "memory", "nn", "viz")
_MODULES = ("costs", "devices", "kernels", "meliso_compat", "noise_models", "study")

if _typing.TYPE_CHECKING:
    from . import (
        comm as comm,
        data as data,
        deploy as deploy,
        linalg as linalg,
        memory as memory,
        nn as nn,
        viz as viz,
    )
    from ._public import *  # noqa: F403  # a list, each name by itself

    __version__: str
else:  # a type checker that saw this function would take every name for a module

    def __getattr__(name):
        """Import what is asked for: JAX takes a second, which `sedma --help` can spare."""
        if name in (*_EXTRAS, *_MODULES):
            return _import_module(f".{name}", __name__)
        if name == "__version__":
            from importlib.metadata import version

            return version("sedma-jax")
        if name == "__all__":  # for `from sedma_jax import *`
            return [public for public in __dir__() if public not in _EXTRAS]
        if not name.startswith("_"):
            names = _public_names()
            if name in names:
                globals().update(names)
                return names[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _public_names():
    # Import hooks, such as that of jaxtyping, add modules of their own.
    own = lambda name, value: name in _MODULES or not isinstance(value, _ModuleType)
    public = vars(_import_module("._public", __name__)).items()
    return {n: value for n, value in public if not n.startswith("_") and own(n, value)}


def __dir__():
    return sorted({*_public_names(), *_EXTRAS})
