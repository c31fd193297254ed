# %% [markdown]
# # ADC bits x array size x device: 64 points
#
# A design study: four resolutions of the *ADC* (the converter that reads each bit line),
# four array sizes and four materials. More bits cost energy; larger arrays share
# converters among more cells but add more currents into one range; materials differ in
# how well cells are written.
#
# What compiles: resolutions are numbers that `vmap` maps over, and a material's figures are
# leaves of a pytree, so a program compiles once for each *shape* of array: four times for
# 64 points. There are 81 lines of code on this page, checks and figure included; no peer
# has a tutorial of it.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import sedma_jax as sj

SIZES, BITS = (32, 64, 128, 256), (4, 5, 6, 8)
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
@jax.jit
def errors(crossbar, bits):
    """Relative error of the product at each resolution."""

    def one(bits):
        Y = sj.matvec(crossbar, X, adc=sj.ADC(bits), key=read_key)
        return jnp.linalg.norm(Y - exact) / jnp.linalg.norm(exact)

    return jax.vmap(one)(bits)


error = {}
for size in SIZES:
    for name, device in sj.devices.PRESETS.items():
        device = jax.tree.map(jnp.asarray, device)  # numbers as arrays: one compilation
        crossbar, _ = sj.program(
            A, device, array=size, scheme="sampled_rewrite", key=program_key
        )
        for bits, found in zip(BITS, errors(crossbar, jnp.array(BITS)), strict=True):
            error[name, size, bits] = float(found)
print(f"{len(error)} points, {errors._cache_size()} compilations of the product")
assert len(error) == 64 and errors._cache_size() == len(SIZES)

# %% [markdown]
# ## Energy and area
#
# `mvm_cost` counts what one product takes, by component, with published costs
# (`sj.costs.SURVEY`: the median of measured ADCs of the last decade). The heat in the cells
# is at most that of a window half open on all cells, which is taken here.

# %%
cost = {}
for size in SIZES:
    for name, device in sj.devices.PRESETS.items():
        mean_square = device.v_read**2 / 3
        cells = 2 * size * size * (device.g_min + device.g_max) / 2
        for bits in BITS:
            cost[name, size, bits] = sj.kernels.mvm_cost(
                sj.costs.SURVEY,
                sj.kernels.MvmWorkload(256, 256, size, size, adc_bits=bits),
                read_energy=mean_square * cells * device.t_read,
                mean_square_voltage=mean_square,
                t_read=device.t_read,
            )
for size in SIZES:
    here = cost["epiram", size, 6]
    print(
        f"{size:3} x {size:<3} epiram, 6 bits: error {error['epiram', size, 6]:.3f}, "
        f"{1e9 * float(here.energy):.2f} nJ, {1e6 * float(here.area):.3f} mm2"
    )

# %%
figure, axes = plt.subplots(2, 2, figsize=(7, 5), sharex=True, sharey=True)
markers = dict(zip(SIZES, "osD^", strict=True))
for axis, name in zip(axes.flat, sj.devices.PRESETS, strict=True):
    for size in SIZES:
        joules = [1e9 * float(cost[name, size, bits].energy) for bits in BITS]
        wrong = [error[name, size, bits] for bits in BITS]
        axis.loglog(joules, wrong, markers[size] + "-", label=f"{size} x {size}")
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

# %%
for name in sj.devices.PRESETS:
    for size in SIZES:
        line = [error[name, size, bits] for bits in BITS]
        assert line[0] > line[1] > line[2] > 0.99 * line[3]
    adc = [float(cost[name, size, 6].energy_adc) for size in SIZES]
    np.testing.assert_allclose(adc, adc[0] / 2.0 ** np.arange(4), rtol=1e-5)
best = {
    name: min(
        (float(cost[name, size, bits].energy), size, bits)
        for (n, size, bits), wrong in error.items()
        if n == name and wrong < 0.05
    )
    for name in sj.devices.PRESETS
    if any(n == name and wrong < 0.05 for (n, _, _), wrong in error.items())
}
for name, (joules, size, bits) in best.items():
    print(
        f"{name:10} cheapest below 5 % error: {size} x {size}, {bits} bits, {joules:.2g} J"
    )
assert "epiram" in best
