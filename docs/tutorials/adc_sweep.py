# %% [markdown]
# # ADC bits x array size x device: 64 points
#
# A design study: four resolutions of the *ADC* (the converter that reads each bit line),
# four array sizes and four materials. More bits cost energy; larger arrays share
# converters among more cells but add more currents into one range; materials differ in
# how well cells are written.
#
# What compiles: resolutions are numbers that `vmap` maps over, and a material's figures are
# leaves of a pytree, so `sj.study.run` compiles a program for each *shape* of array: four
# for 64 points. There are 56 lines of code on this page, checks and figure included; no
# peer has a tutorial of it.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import sedma_jax as sj

A = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(16, 256)).astype(np.float32)
exact = X @ A.T
program_key, read_key = jax.random.split(jax.random.key(0))

# %% [markdown]
# ## Error
#
# `sampled_rewrite` draws cells from the distribution that write-and-verify leaves, without
# its loop of pulses, which a sweep can do without.


# %%
def error(device, size, bits):
    """Relative error of the product."""
    crossbar, _ = sj.program(
        A, device, array=size, scheme="sampled_rewrite", key=program_key
    )
    Y = sj.matvec(crossbar, X, adc=sj.ADC(bits), key=read_key)
    return {"error": jnp.linalg.norm(Y - exact) / jnp.linalg.norm(exact)}


# %% [markdown]
# ## Energy and area
#
# `mvm_cost` counts what one product takes, by component, with published costs
# (`sj.costs.SURVEY`: the median of measured ADCs of the last decade). The heat in the cells
# is at most that of a window half open on all cells, which is taken here.


# %%
def cost(device, size, bits):
    """Joules, seconds and square metres of the product of one vector."""
    mean_square = device.v_read**2 / 3
    cells = 2 * size * size * (device.g_min + device.g_max) / 2
    found = sj.kernels.mvm_cost(
        sj.costs.SURVEY,
        sj.kernels.MvmWorkload(256, 256, size, size, adc_bits=bits),
        read_energy=mean_square * cells * device.t_read,
        mean_square_voltage=mean_square,
        t_read=device.t_read,
    )
    figures = "energy", "energy_adc", "latency", "area"
    return {name: getattr(found, name) for name in figures}


# %% [markdown]
# ## The study
#
# A grid is all combinations. With `file="study.jsonl"`, `run` would keep each result as it
# comes, and go on where it was stopped.

# %%
SIZES, BITS, DEVICES = (32, 64, 128, 256), (4, 5, 6, 8), sj.devices.PRESETS
points = sj.study.grid(device=DEVICES, size=SIZES, bits=BITS)
table = sj.study.run([error, cost], points, mapped=["bits"])
print(sj.study.select(table, device="epiram", bits=6))
assert len(table) == 64

# %%
figure, axes = plt.subplots(2, 2, figsize=(7, 5), sharex=True, sharey=True)
for axis, name in zip(axes.flat, DEVICES, strict=True):
    for size, marker in zip(SIZES, "osD^", strict=True):
        line = sj.study.select(table, device=name, size=size)
        label = f"{size} x {size}"
        axis.loglog(1e9 * line["energy"], line["error"], marker + "-", label=label)
    axis.set_title(name, fontsize=9)
for axis in axes[1]:
    axis.set_xlabel("energy of a product, nJ")
for axis in axes[:, 0]:
    axis.set_ylabel("relative error")
axes[0, 0].legend(title="array; 4, 5, 6, 8 bits", fontsize=7, title_fontsize=7)
plt.show()

# %% [markdown]
# ## What the figures say
#
# More bits help until the cells decide. Larger arrays need fewer conversions: the energy of
# the ADCs halves with each doubling, as the number of tiles that add up to an output does.
# The *Pareto front* has the designs that no other beats in both error and energy.

# %%
for name in DEVICES:
    for size in SIZES:
        line = sj.study.select(table, device=name, size=size)["error"]
        assert line[0] > line[1] > line[2] > 0.99 * line[3]
    adc = sj.study.select(table, device=name, bits=6)["energy_adc"]
    np.testing.assert_allclose(adc, adc[0] / 2.0 ** np.arange(4), rtol=1e-5)
best = sj.study.pareto(table, lower=("energy", "error"))
print(best)
assert any(row["device"] == "epiram" for row in best)
