# %% [markdown]
# # A device of your own
#
# A device is a record of numbers in SI units. This study starts from a table of measured
# conductances as a CSV file has them: 64 pulses up (*LTP*, long-term potentiation) and 64
# down (*LTD*, depression), over 20 cycles; fits the pulse response and the noise; and uses
# the device. The measurements are drawn from a known device, so that what the fit finds can
# be judged. There are 105 lines of code on this page, measurements, checks and
# figure included; a peer's example of a device from a CSV file takes 108.

# %%
import dataclasses
import io

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import scipy.optimize

import sedma_jax as sj

# %% [markdown]
# ## The quick way
#
# From a published device, with what differs. A wrong unit is refused at once.

# %%
mine = dataclasses.replace(sj.devices.EPIRAM, sigma_c2c=0.01, sigma_read=0.005)
refused = None
try:
    dataclasses.replace(mine, g_max=12.0)  # meant: 12 uS
except ValueError as refusal:
    refused = str(refusal)
    print(refused)
assert refused is not None

# %% [markdown]
# ## Measurements
#
# In a study of yours, `table` is `np.loadtxt("measured.csv", delimiter=",", skiprows=1)`.

# %%
PULSES, CYCLES = 64, 20
truth = sj.devices.Device(
    g_min=2e-6,
    g_max=40e-6,
    pulses_ltp=PULSES,
    pulses_ltd=PULSES,
    nonlinearity_ltp=1.5,
    nonlinearity_ltd=-1.2,
    sigma_c2c=0.01,
)


def measured(key):
    """A CSV file: number of the pulse, then microsiemens of each cycle."""
    response = sj.kernels.nominal_response(truth, jnp.float32)

    def pulse(state, step):
        key, sign = step
        state = sj.kernels.apply_pulses(
            state, jnp.full(CYCLES, sign), truth, response, key=key
        )
        return state, state

    signs = jnp.repeat(jnp.array([1.0, -1.0]), PULSES)
    keys = jax.random.split(key, 2 * PULSES)
    _, states = jax.lax.scan(pulse, jnp.zeros(CYCLES), (keys, signs))
    states = jnp.concatenate([jnp.zeros((1, CYCLES)), states])
    siemens = truth.g_min + states * (truth.g_max - truth.g_min)
    rows = np.column_stack([np.arange(2 * PULSES + 1), 1e6 * np.asarray(siemens)])
    text = io.StringIO()
    np.savetxt(text, rows, "%.5g", delimiter=",", header="pulse,uS...")
    return text.getvalue()


csv = measured(jax.random.key(0))
print(csv[:100], "...")
table = np.loadtxt(io.StringIO(csv), delimiter=",", skiprows=1)
number, cycles = table[:, 0], 1e-6 * table[:, 1:]

# %% [markdown]
# ## Fit
#
# Both branches follow $s(f) = (1 - e^{-u f}) / (1 - e^{-u})$, with $f$ the share of the
# pulses that cross the window. Device tables state the curvature $u$ as a *nonlinearity
# label*, 10.1 times the largest distance of the curve from a straight line, with the sign
# of $u$; that of depression is negative. `sj.devices.fit` does this fit in one call, noise
# included; here it is done by hand, so that each step is seen.


# %%
def response(f, u):
    return np.expm1(-u * f) / np.expm1(-u)


def label(u):
    f = np.linspace(0, 1, 10001)
    return 10.101525 * np.max(response(f, u) - f)


def branches(number, low, high, up, down):
    """Mean conductance after each pulse: all up, then all down."""
    f = np.minimum(number, PULSES) / PULSES
    back = np.maximum(number - PULSES, 0) / PULSES
    state = np.where(number <= PULSES, response(f, up), 1 - response(back, down))
    return low + (high - low) * state


mean = cycles.mean(axis=1)
guess = (1e6 * mean.min(), 1e6 * mean.max(), 1.0, 1.0)
found, _ = scipy.optimize.curve_fit(branches, number, 1e6 * mean, guess)
low, high, up, down = found
fitted_mean = branches(number, *found)
rms = np.sqrt(np.mean((1e6 * mean - fitted_mean) ** 2))

# Noise of one pulse: the spread over cycles of what a pulse changed, in the first quarter
# of each branch, where no cell has reached the end of its window.
steps = np.diff(cycles, axis=0) / (1e-6 * (high - low))
free = np.r_[1 : PULSES // 4, PULSES + 1 : PULSES + PULSES // 4]
sigma_c2c = np.sqrt(np.mean(np.var(steps[free], axis=1, ddof=1)))

fitted = sj.devices.Device(
    g_min=1e-6 * low,
    g_max=1e-6 * high,
    pulses_ltp=PULSES,
    pulses_ltd=PULSES,
    nonlinearity_ltp=label(up),
    nonlinearity_ltd=-label(down),
    sigma_c2c=sigma_c2c,
)
print(f"rms of the fit {rms:.2f} uS")
for name in ("g_min", "g_max", "nonlinearity_ltp", "nonlinearity_ltd", "sigma_c2c"):
    print(
        f"{name:17} fitted {getattr(fitted, name):10.3g}  true {getattr(truth, name):9.3g}"
    )

# %% [markdown]
# How close must it be? The mean of 20 cycles wanders by at most $\sigma \sqrt{64 / 20} =
# .018$ of the window, and a label is 10.1 times a distance in windows: four standard
# deviations of half that are .36. The noise comes from 30 steps of 20 cycles, so its
# relative error is $1 / \sqrt{2 \cdot 570} = 3 \%$.

# %%
assert abs(fitted.nonlinearity_ltp - truth.nonlinearity_ltp) < 0.36
assert abs(fitted.nonlinearity_ltd - truth.nonlinearity_ltd) < 0.36
assert abs(sigma_c2c / truth.sigma_c2c - 1) < 4 * 0.03
assert abs(fitted.g_max / truth.g_max - 1) < 4 * 0.018

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.1), width_ratios=(3, 2))
left.plot(number, 1e6 * cycles, ".", color="#56B4E9", markersize=1.5, alpha=0.5)
left.plot(number, fitted_mean, color="#D55E00", label="fit")
left.plot([], [], ".", color="#56B4E9", label="20 cycles")
left.set(xlabel="pulse (64 up, then 64 down)", ylabel="conductance, uS")
left.legend()
right.plot(number, 1e6 * mean - fitted_mean)
right.axhline(0, color="grey", linewidth=0.8)
right.set(xlabel="pulse", ylabel="mean minus fit, uS")
plt.show()

# %% [markdown]
# The residual grows at the last pulses: cells at the bottom of their window can only be
# raised by noise, which the curve of the mean does not know.
#
# ## Use
#
# The fitted device goes wherever a published one does. With the same key it gives the error
# that the true one gives, up to the error of the fit.

# %%
A = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
x = np.random.default_rng(1).normal(size=64).astype(np.float32)
errors = {}
for name, device in (("true", truth), ("fitted", fitted), ("epiram", sj.devices.EPIRAM)):
    y, info = sj.corrected_matvec(A, x, device, array=64, key=jax.random.key(1))
    errors[name] = float(info.relative_l2_raw)
    corrected, pulses = float(info.relative_l2_corrected), int(info.stats.pulses)
    print(f"{name:7} raw {errors[name]:.4f}, corrected {corrected:.2g}, {pulses:,} pulses")
# Of the error's square one run of 64 outputs tells 1/sqrt(32); two devices, four sigma.
assert abs(np.log(errors["fitted"] / errors["true"])) < 4 * np.sqrt(2 * 1 / 128) + 0.03
