"""Check that an extra is installed, before an import of it fails."""

from importlib.util import find_spec


def require(extra: str, *libraries: str) -> None:
    """Check that the libraries of an extra are installed; they are not imported.

    **Raises:**

    - `ImportError`: if one of them is missing, with the command that installs it.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise ImportError(
                f"`sedma_jax.{extra}` needs {library}, which is not installed. "
                f"Install with `pip install 'sedma-jax[{extra}]'`."
            )
