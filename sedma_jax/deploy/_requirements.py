"""Say which extra is missing, before an import fails for want of it."""

from importlib.util import find_spec

for _library in (
    "jsonschema",
    "kubernetes_validate",
    "mtkahypar",
    "ortools",
    "pydantic",
    "yaml",
):
    if find_spec(_library) is None:
        raise ImportError(
            f"`sedma_jax.deploy` needs {_library}, which is not installed. "
            "Install with `pip install 'sedma-jax[deploy]'`."
        )
