"""The catalogue of devices: figures and plots, all from the package."""

import io

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from sedma_jax.kernels import move_state, nominal_response

import sedma_jax as sj


def curve(device, name: str) -> str:
    """A label, or the kind of the curve that stands in its place."""
    shape = getattr(device, f"curve_{name}")
    if shape is not None:
        return type(shape).__name__
    return f"{getattr(device, f'nonlinearity_{name}'):.3g}"


ROWS = (
    ("window, µS", lambda d: f"{d.g_min * 1e6:.4g} to {d.g_max * 1e6:.4g}"),
    ("on/off ratio", lambda d: f"{d.g_max / d.g_min:.4g}"),
    ("pulses up, down", lambda d: f"{d.pulses_ltp:.0f}, {d.pulses_ltd:.0f}"),
    ("nonlinearity up, down", lambda d: f"{curve(d, 'ltp')}, {curve(d, 'ltd')}"),
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
    devices = sj.devices.PULSED
    table = ["| | " + " | ".join(f"`{n}`" for n in devices) + " |"]
    table.append("| --- " * (len(devices) + 1) + "|")
    for title, cell in ROWS:
        cells = " | ".join(cell(device) for device in devices.values())
        table.append(f"| {title} | {cells} |")
    text = f"""# Device catalogue

All {len(sj.devices.CATALOGUE)} entries of `sj.devices.CATALOGUE`, by the names which
`sj.devices.named` takes. This page is made from the package; `sedma devices` prints it.

## Devices with pulses

{chr(10).join(table)}

The first four are those that MELISO+ simulates, `sj.devices.PRESETS`. Where a source has
no voltages, widths or times, those of `sj.Device` stand here, and energies and times of
writing mean nothing: see the list of sources below.

Conductance over identical pulses, without noise, each window scaled to 1:

![Pulse response of each device](assets/pulse_response.svg)

A device of your own is a copy with other figures; `sj.Device` has the meaning and the range
of each in the [reference](api/kernels.md#sedma_jax.kernels.Device):

```python
import dataclasses

import sedma_jax as sj

mine = dataclasses.replace(sj.devices.EPIRAM, sigma_c2c=0.01, g_max=80e-6)
assert abs(float(mine.g_max) - 80e-6) < 1e-10
```

[Devices from measurements](howto/devices.md) finds one in your data.

## Measured arrays

Published statistics in place of a pulse model. `programming`, `drift` and `read` of one are
taken by `sj.perturb`, `sj.age` and `sj.with_read_noise`; `none` means that its source does
not say.

{measured_arrays()}

Standard deviation of programming over the target, as each source has it:

![Programming noise of each measured array](assets/programming_noise.svg)

## Windows

Of these the window alone was found. Their pulses are the placeholders of
`sj.noise_models.window`: take them with `sj.program_exactly`.

![Conductance windows of all entries](assets/windows.svg)

## Sources

{sources()}
"""
    return {
        "devices.md": text,
        "assets/pulse_response.svg": responses(devices),
        "assets/programming_noise.svg": programming(),
        "assets/windows.svg": windows(),
    }


def arrays() -> dict[str, sj.kernels.MeasuredArray]:
    """The measured arrays, by name."""
    every = {name: known.device for name, known in sj.devices.CATALOGUE.items()}
    return {n: a for n, a in every.items() if isinstance(a, sj.kernels.MeasuredArray)}


def sources() -> str:
    """A list of where the figures of each are from."""
    lines = []
    for name, technology in sj.devices.CATALOGUE.items():
        derived = f" Derived: {technology.derived}." if technology.derived else ""
        lines.append(f"- `{name}`: {technology.source}.{derived}")
    return "\n".join(lines)


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
    """Potentiation and depression of each device, without noise."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
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
    axis.legend(frameon=False, fontsize="small")
    return svg(figure)


def programming() -> bytes:
    """Spread of programming over the window."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axis = figure.subplots()
    for name, array in arrays().items():
        g = jnp.linspace(float(array.device.g_min), float(array.device.g_max), 60)
        spread = array.programming.deviation(g)
        axis.plot(np.asarray(g) * 1e6, np.asarray(spread) * 1e6, label=name)
    axis.set(xlabel="target, µS", ylabel="standard deviation, µS")
    axis.legend(frameon=False, fontsize="small")
    return svg(figure)


def windows() -> bytes:
    """The window of every entry; one that begins at 0 is open to the left."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    names = list(sj.devices.CATALOGUE)
    for row, name in enumerate(names):
        known = sj.devices.CATALOGUE[name].device
        device = known.device if isinstance(known, sj.kernels.MeasuredArray) else known
        low, high = float(device.g_min), float(device.g_max)
        axis.plot([max(low, 1e-11) * 1e6, high * 1e6], [row, row], lw=4)
    axis.set_yticks(range(len(names)), names, fontsize="small")
    axis.invert_yaxis()
    axis.set(xscale="log", xlim=(3e-5, 1e3), xlabel="conductance, µS")
    return svg(figure)


def svg(figure: Figure) -> bytes:
    """A figure as SVG that is the same on each build."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
