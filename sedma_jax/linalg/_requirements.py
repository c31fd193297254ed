"""Say which extra is missing, before an import fails for want of it."""

from importlib.util import find_spec

if find_spec("lineax") is None:
    raise ImportError(
        "`sedma_jax.linalg` needs lineax, which is not installed. "
        "Install with `pip install 'sedma-jax[linalg]'`."
    )
