"""Check that an extra is installed, before an import of it fails."""

from importlib.util import find_spec


def install_hint(extra: str) -> str:
    """The sentence that says how an extra is installed.

    No package index has sedma_jax yet, so the ways that work are a checkout and a wheel.
    """
    return (
        f"Install with `pip install '.[{extra}]'` in a checkout of sedma_jax, or with "
        f"`pip install 'FILE.whl[{extra}]'` from a wheel."
    )


def require(extra: str, *libraries: str) -> None:
    """Check that the libraries of an extra are installed; they are not imported.

    **Raises:**

    - `ImportError`: if one of them is missing, with the command that installs it.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise ImportError(
                f"`sedma_jax.{extra}` needs {library}, which is not installed. "
                f"{install_hint(extra)}"
            )
