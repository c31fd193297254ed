"""Take what callers plainly mean, and refuse objects of a wrong kind, in one line."""

from typing import Any

from . import devices
from .kernels import Device, check_callable, one_of, shown
from .noise_models import MeasuredArray


def device_of(call: str, device: Device | str, name: str = "device") -> Device:
    """The technology, which may be named as on the command line.

    **Raises:**

    - `ValueError`: if it is no `Device`, and no name of one with pulses.
    """
    if isinstance(device, Device):
        return device
    call = f"sedma_jax.{call}"
    if isinstance(device, str):
        return devices.PULSED[one_of(call, name, device, devices.PULSED)]
    remedy = "Such as `sedma_jax.devices.EPIRAM`."
    if isinstance(device, MeasuredArray):
        remedy = (
            "Its window is its `device`: `perturb(program_exactly(A, it.device), "
            "it.programming, key=key)` programs by its statistics."
        )
    raise ValueError(
        f"`{call}` needs `{name}` to be a `sedma_jax.Device`. Got {shown(device)}. {remedy}"
    )


def technology_of(call: str, device: Any) -> Device | MeasuredArray:
    """The technology, or published statistics, which stand for one."""
    return device if isinstance(device, MeasuredArray) else device_of(call, device)


def check_progress(call: str, progress: Any) -> None:
    """Refuse a `progress` that cannot be called."""
    if progress is not None:
        check_callable(
            f"sedma_jax.{call}",
            "a function of the number done and the number in all",
            "Leave it out to see none.",
            progress=progress,
        )
