"""The catalogue of devices: figures and plots, all from the package."""

import io

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from sedma_jax.kernels import move_state, nominal_response

import sedma_jax as sj

ROWS = (
    ("window, µS", lambda d: f"{d.g_min * 1e6:.4g} to {d.g_max * 1e6:.4g}"),
    ("on/off ratio", lambda d: f"{d.g_max / d.g_min:.4g}"),
    ("pulses up, down", lambda d: f"{d.pulses_ltp:.0f}, {d.pulses_ltd:.0f}"),
    (
        "nonlinearity up, down",
        lambda d: f"{d.nonlinearity_ltp:.3g}, {d.nonlinearity_ltd:.3g}",
    ),
    ("cycle-to-cycle, % of window", lambda d: f"{d.sigma_c2c * 100:.3g}"),
    ("device-to-device, label units", lambda d: f"{d.sigma_d2d:.3g}"),
    ("read noise, % of range", lambda d: f"{d.sigma_read * 100:.3g}"),
    ("write voltage up, down, V", lambda d: f"{d.v_ltp:.3g}, {d.v_ltd:.3g}"),
    ("pulse width up, down, s", lambda d: f"{d.t_ltp:.3g}, {d.t_ltd:.3g}"),
    ("read voltage, V; time, s", lambda d: f"{d.v_read:.3g}; {d.t_read:.3g}"),
    ("access resistance, Ω", lambda d: f"{d.r_access:.4g}"),
)


def files() -> dict[str, str | bytes]:
    """The page and its pictures, by path in the site."""
    devices = sj.devices.PRESETS
    table = ["| | " + " | ".join(f"`{n}`" for n in devices) + " |", "| --- " * 5 + "|"]
    for title, cell in ROWS:
        cells = " | ".join(cell(device) for device in devices.values())
        table.append(f"| {title} | {cells} |")
    measured = measured_arrays()
    text = f"""# Device catalogue

All that `sj.devices.CATALOGUE` has, by the names that `sj.devices.named` takes. This page
is made from the package: `sedma devices` prints the same.

## Four materials

{chr(10).join(table)}

Conductance over identical pulses, without noise, each window scaled to 1:

![Pulse response of the four materials](assets/pulse_response.svg)

A device of your own is a copy with other figures; `sj.Device` has the meaning and the range
of each in the [reference](api/kernels.md#sedma_jax.kernels.Device):

```python
import dataclasses

import sedma_jax as sj

mine = dataclasses.replace(sj.devices.EPIRAM, sigma_c2c=0.01, g_max=80e-6)
assert abs(float(mine.g_max) - 80e-6) < 1e-10
```

## Measured arrays

Published statistics in place of a pulse model. `programming`, `drift` and `read` of one are
taken by `sj.perturb`, `sj.age` and `sj.with_read_noise`; `None` means that its source does
not say.

{measured}

Standard deviation of programming over the target, as each source has it:

![Programming noise of measured arrays](assets/programming_noise.svg)

## Sources

{sources()}
"""
    return {
        "devices.md": text,
        "assets/pulse_response.svg": responses(devices),
        "assets/programming_noise.svg": programming(),
    }


def arrays() -> dict[str, sj.kernels.MeasuredArray]:
    """The measured arrays, by name."""
    every = {name: known.device for name, known in sj.devices.CATALOGUE.items()}
    return {n: a for n, a in every.items() if isinstance(a, sj.kernels.MeasuredArray)}


def sources() -> str:
    """A list of where the figures of each are from."""
    known = sj.devices.CATALOGUE.items()
    return "\n".join(f"- `{name}`: {technology.source}." for name, technology in known)


def measured_arrays() -> str:
    """A table of what each has."""
    lines = ["| name | window, µS | programming | drift | read noise |", "| --- " * 5 + "|"]
    for name, array in arrays().items():
        device = array.device
        window = f"{device.g_min * 1e6:.4g} to {device.g_max * 1e6:.4g}"
        kinds = [
            type(part).__name__ for part in (array.programming, array.drift, array.read)
        ]
        kinds = ["none" if kind == "NoneType" else f"`{kind}`" for kind in kinds]
        lines.append(f"| `{name}` | {window} | " + " | ".join(kinds) + " |")
    return "\n".join(lines)


def responses(devices) -> bytes:
    """Potentiation and depression of each material, without noise."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axis = figure.subplots()
    for name, device in devices.items():
        response = nominal_response(device, jnp.float32)
        up, down = float(device.pulses_ltp), float(device.pulses_ltd)
        quiet = jnp.zeros(65)
        counts = jnp.linspace(0, 1, 65)
        rising = move_state(quiet, up * counts, device, response, quiet)
        falling = move_state(quiet + 1, -down * counts, device, response, quiet)
        (line,) = axis.plot(np.linspace(0, 1, 65), rising, label=name)
        axis.plot(np.linspace(1, 2, 65), falling, color=line.get_color())
    axis.set(xlabel="pulses / pulses of the window: up, then down", ylabel="state")
    axis.legend(frameon=False)
    return svg(figure)


def programming() -> bytes:
    """Spread of programming over the window."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axis = figure.subplots()
    for name, array in arrays().items():
        if array.programming is not None:
            g = jnp.linspace(float(array.device.g_min), float(array.device.g_max), 60)
            spread = array.programming.deviation(g)
            axis.plot(np.asarray(g) * 1e6, np.asarray(spread) * 1e6, label=name)
    axis.set(xlabel="target, µS", ylabel="standard deviation, µS")
    axis.legend(frameon=False, fontsize="small")
    return svg(figure)


def svg(figure: Figure) -> bytes:
    """A figure as SVG that is the same on each build."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
