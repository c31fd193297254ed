"""The names of the devices, for options; `sedma_jax.devices` itself imports JAX."""

PRESETS = ("ag-asi", "alox-hfo2", "epiram", "taox-hfox")
"""The keys of `sedma_jax.devices.PRESETS`."""


def device_name(text: str) -> str:
    """A name as `PRESETS` has it: `AG_ASI` and `ag-asi` are one."""
    return text.lower().replace("_", "-")
