"""The names of the devices, for options; `sedma_jax.devices` itself imports JAX."""

from argparse import ArgumentTypeError

PRESETS = ("ag-asi", "alox-hfo2", "epiram", "taox-hfox")
"""The keys of `sedma_jax.devices.PRESETS`."""
PULSED = (*PRESETS, "taox-tio2", "pcmo", "hzo-fefet", "li-ecram")
"""The keys of `sedma_jax.devices.PULSED`."""


def device_or_file(text: str) -> str:
    """A name, as `AG_ASI` or `ag-asi`, or a file of a device, which is read later."""
    if text.lower().endswith((".json", ".toml")):
        return text
    name = text.lower().replace("_", "-")
    if name not in PULSED:
        raise ArgumentTypeError(
            f"{text!r} is none of {', '.join(PULSED)}, and no .json or .toml file"
        )
    return name


def devices_or_file(text: str) -> str:
    """The same, or "all", which stands for the four of `PRESETS`."""
    return "all" if text.lower() == "all" else device_or_file(text)
