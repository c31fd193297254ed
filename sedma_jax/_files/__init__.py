"""Files of matrices and vectors: read without trust, written whole or not at all."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .load import load_matrix as load_matrix, load_vector as load_vector
else:  # reading needs NumPy and JAX, and writing, which the tool's start imports, does not

    def __getattr__(name: str) -> Any:
        if name not in ("load_matrix", "load_vector"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import load

        return getattr(load, name)
