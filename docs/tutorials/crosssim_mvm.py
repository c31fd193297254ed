# %% [markdown]
# # CrossSim's MVM study: device error, slices, ADC
#
# CrossSim's first tutorial multiplies a matrix of 200 x 300 entries, uniform between -1
# and 1, with vectors from the same range, and switches on one error after another. This is
# that study here, with the same physics, and with what CrossSim 3.2 gave for it:
#
# | effect | CrossSim | expected by a closed form |
# | --- | --- | --- |
# | programming error, 5 % of each conductance | .0510 | .0500 |
# | four slices of 2 bits, no error | .00196 | .00196 |
# | both | .0427 | .0420 |
#
# There are 61 lines of code on this page, checks, closed forms and figure included; for the
# products alone 14 are enough here, and 8 in CrossSim, whose parameters name the slices.
# The figures of one run scatter; each closed form is derived below.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import sedma_jax as sj

A = np.random.default_rng(198).uniform(-1, 1, (200, 300)).astype(np.float32)
X = np.random.default_rng(1).uniform(-1, 1, (64, 300)).astype(np.float32)
exact = X @ A.T
keys = jax.random.split(jax.random.key(0), 5)
one_array = dict(array=(300, 200), scaling="global_scale")


def error(Y):
    return float(np.linalg.norm(Y - exact) / np.linalg.norm(exact))


# %% [markdown]
# ## A device of which only the error is known
#
# CrossSim's generic device has a conductance window and a law of error. Here the window is
# a `window`, and `program_exactly` puts every cell on its target, without pulses;
# `perturb` then draws the error, with a standard deviation *proportional* to the
# conductance. `global_scale` fills the window with the largest weight of the matrix, as
# CrossSim does.
#
# Closed form: each term $w x$ of a product gets an independent error of 5 %, so sums of
# squares have a ratio of $0.05^2$.

# %%
device = sj.noise_models.window(0.0, 100e-6)  # siemens
five_percent = sj.noise_models.proportional(0.05)
programming = sj.noise_models.ProgrammingNoise(five_percent)

ideal = sj.program_exactly(A, device, **one_array)
noisy = sj.perturb(ideal, programming, key=keys[0])
quiet, five = (error(sj.matvec(c, X, key=keys[1])) for c in (ideal, noisy))
print(f"ideal {quiet:.1g}, 5 % error {five:.4f}; CrossSim .0510")
assert quiet < 1e-5  # rounding in float32
# 60,000 errors of one standard deviation each, heavier where weights are larger.
four_sigma = 4 * 0.05 * np.sqrt(9 / 5 / 2 / A.size + 1 / exact.size)
assert abs(five - 0.05) < four_sigma and abs(0.0510 - 0.05) < 4 * 0.05 / np.sqrt(2 * 200)

# %% [markdown]
# ## Bit slices
#
# A cell with few levels holds only some bits. `program_bit_sliced` writes a weight of
# 8 bits and a sign as four digits to the base 4, on four arrays whose products are shifted
# and added. It programs by closed loop; `retarget` below puts cells on the nearest level
# exactly, since this study has an error law of its own.
#
# Closed form: rounding to steps of $1/255$ errs by $1/(255 \sqrt{12})$, and weights have a
# root mean square of $1/\sqrt{3}$: together $1/(2 \cdot 255) = .00196$.

# %%
sliced, stats = sj.program_bit_sliced(
    A, device, cell_bits=2, slices=4, key=keys[2], **one_array
)


def retarget(crossbar, levels):
    """Cells at the nearest of evenly spaced levels."""
    step = device.g_max / (levels - 1)
    return sj.with_conductance(crossbar, jnp.round(crossbar.conductance / step) * step)


levels = retarget(sliced, 4)
noisy_levels = sj.perturb(levels, programming, key=keys[3])
rounded, both = (error(sj.matvec(c, X, key=keys[1])) for c in (levels, noisy_levels))
print(f"four slices {rounded:.5f}; CrossSim .00196")
print(f"four slices and 5 % error {both:.4f}; CrossSim .0427")
step_error = 1 / 255 / np.sqrt(12) / np.sqrt(np.mean(A**2))
assert abs(rounded - step_error) < 4 * step_error * np.sqrt(1 / A.size + 1 / exact.size)

# %% [markdown]
# Slices make the error smaller, because the four digits of a weight err independently: the
# sum of squares of the slices' shares, not the square of their sum. With shares
# $f = (192, 48, 12, 3) / 255$ and digits of mean square $14/36$, the error is
# $.05 \sqrt{14/36 \sum f^2 \cdot 3}$.

# %%
shares = np.array([192, 48, 12, 3]) / 255
expected = np.hypot(0.05 * np.sqrt(3 * 14 / 36 * np.sum(shares**2)), rounded)
print(f"closed form {expected:.4f}")
for figure_of_a_run, outputs in ((both, exact.size), (0.0427, 200)):
    assert abs(figure_of_a_run - expected) < 4 * expected / np.sqrt(2 * outputs) + 1e-4

# %% [markdown]
# ## Converters
#
# An *ADC* turns each current into a number of a few bits. Its range matters more than its
# resolution: `calibrated_adc` takes it from data, here the range that holds all sums, and
# one that clips the largest 0.1 %. Resolutions are values, so `vmap` runs all of them in
# one compiled program.

# %%
bits = jnp.arange(4, 13)
curves = {}
for percentile in (100.0, 99.9):
    adc = sj.calibrated_adc(ideal, X, bits=8, percentile=percentile, key=keys[4])

    def product(bits, crossbar, full_scale=adc.full_scale):
        return sj.matvec(crossbar, X, adc=sj.ADC(bits, full_scale), key=keys[1])

    sweep = jax.jit(jax.vmap(product, in_axes=(0, None)))
    for label, crossbar in (("ideal cells", ideal), ("5 % error", noisy)):
        curves[label, percentile] = [error(Y) for Y in sweep(bits, crossbar)]

assert curves["ideal cells", 100.0][-1] < 0.02 * curves["ideal cells", 100.0][0]
assert abs(curves["5 % error", 100.0][-1] - five) < 0.1 * five  # the cells decide

# %%
figure, axis = plt.subplots()
for (label, percentile), errors in curves.items():
    line = "-" if percentile == 100 else "--"
    colour = "#0072B2" if label == "ideal cells" else "#D55E00"
    name = f"{label}, range holds {percentile:g} %"
    axis.semilogy(bits, errors, "o" + line, color=colour, label=name)
axis.set(xlabel="bits of the ADC, sign included", ylabel="relative error of the product")
axis.legend()
plt.show()

# %% [markdown]
# Beyond about 7 bits the cells decide, and more resolution is wasted energy: an ADC's
# energy about doubles with each bit. [ADC bits x array size x device](adc_sweep.md) puts
# joules on this.
