"""The names of the devices, for options; `sedma_jax.devices` itself imports JAX."""

from argparse import ArgumentTypeError

PRESETS = ("ag-asi", "alox-hfo2", "epiram", "taox-hfox")
"""The keys of `sedma_jax.devices.PRESETS`."""


def device_name(text: str) -> str:
    """A name as `PRESETS` has it: `AG_ASI` and `ag-asi` are one."""
    return text.lower().replace("_", "-")


def device_or_file(text: str) -> str:
    """A name, or a file of a device, which the run reads."""
    if text.lower().endswith((".json", ".toml")):
        return text
    name = device_name(text)
    if name not in (*PRESETS, "all"):
        raise ArgumentTypeError(
            f"{text!r} is none of {', '.join(PRESETS)}, all, or a .json or .toml file"
        )
    return name
