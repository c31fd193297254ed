"""Say which extra is missing, before an import fails for want of it."""

from importlib.util import find_spec

for _library in ("PIL", "pycocotools", "skimage", "sklearn", "tokenizers"):
    if find_spec(_library) is None:
        raise ImportError(
            f"`sedma_jax.data` needs {_library}, which is not installed. "
            "Install with `pip install 'sedma-jax[data]'`."
        )
