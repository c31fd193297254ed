# %% [markdown]
# # A first product
#
# A *crossbar* is a grid of resistive cells. A voltage on each horizontal wire (*word
# line*) drives a current through every cell, and each vertical wire (*bit line*) collects
# the currents of its cells: the sums are a matrix-vector product, computed in one step by
# Ohm's and Kirchhoff's laws. The price is noise: no cell holds exactly the conductance
# that was asked for.
#
# This study programs a matrix, multiplies with it, and corrects the product.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import sedma_jax as sj

program_key, read_key, product_key = jax.random.split(jax.random.key(0), 3)
rng = np.random.default_rng(0)
A = rng.normal(size=(300, 200)).astype(np.float32)
x = rng.normal(size=200).astype(np.float32)
exact = A @ x


def error(y):
    return float(np.linalg.norm(y - exact) / np.linalg.norm(exact))


# %% [markdown]
# ## Program
#
# The matrix is cut into *tiles*, one for each array of 128 x 128 weights; each weight is
# the difference of two cells (a *differential pair*). Cells are written by
# *write-and-verify*: pulse, read, compare with the target, and pulse again, until the cell
# is within a band around its target or stops improving. `stats` counts what that took.
#
# Randomness comes from JAX's keys alone: the same key gives the same cells.

# %%
crossbar, stats = sj.program(A, "epiram", array=(128, 128), key=program_key)
tiles = len(crossbar.conductance)
print(f"{tiles} tiles, {int(stats.pulses):,} pulses")
print(f"{float(stats.energy):.2g} J, {float(stats.latency):.2g} s to write and verify")
assert tiles == 6  # 3 x 2 arrays of 128 x 128 cover 300 x 200

# %% [markdown]
# ## Multiply
#
# One analog product. Its error is close to that of the matrix that the cells hold, since
# errors of independent cells add up as the terms of the product do.

# %%
y = sj.matvec(crossbar, x, key=read_key)
held = sj.stored_matrix(crossbar)
of_the_matrix = float(np.linalg.norm(held - A) / np.linalg.norm(A))
print(f"error of the product {error(y):.4f}, of the matrix {of_the_matrix:.4f}")
# The squares of both agree to sqrt(2 (1/300 + 1/200)) = 13 % (one standard deviation).
assert abs(error(y) ** 2 / of_the_matrix**2 - 1) < 4 * 0.13

# %% [markdown]
# ## Correct
#
# `corrected_matvec` programs, multiplies, and removes most of the error in two stages. The
# *first-order correction* cancels what is linear in the errors of matrix and vector, by two
# more analog products. The *second* smooths what is left; how strongly is the
# regularisation parameter λ (`info.lam`).

# %%
y, info = sj.corrected_matvec(A, x, "epiram", array=(128, 128), key=product_key)
raw, corrected = float(info.relative_l2_raw), float(info.relative_l2_corrected)
print(f"raw {raw:.4f}, corrected {corrected:.2g}, with λ = {float(info.lam):.2g}")
np.testing.assert_allclose(error(y), corrected, rtol=0.02)
assert corrected < 0.1 * raw

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
wrong = np.asarray(held - A)
blocks = np.sqrt(np.mean(wrong.reshape(75, 4, 50, 4) ** 2, axis=(1, 3)))
image = left.imshow(blocks, extent=(0, 200, 300, 0), aspect="auto")
left.set(
    xlabel="column (word line)", ylabel="row (bit line)", title="Error of weights (rms)"
)
left.grid(False)
figure.colorbar(image, ax=left)
right.hist(np.asarray(info.raw) - exact, bins=30, alpha=0.8, label="raw")
right.set(xlabel="error of an output", ylabel="outputs", title="Error of the product")
right.axvline(0, color="#D55E00", label="exact")
right.legend()
plt.show()

# %% [markdown]
# Left, the root mean square error of 4 x 4 weights. Each bit line of a tile is scaled so
# that its own largest weight fills the window of the cells: a line with smaller weights
# errs less. To compare materials, put another name in place of `epiram`: `ag-asi`,
# `alox-hfo2` or `taox-hfox`.

# %%
names = [*sj.devices.PRESETS]
results = {
    name: sj.corrected_matvec(A, x, name, array=(128, 128), key=product_key)[1]
    for name in names
}
for name, each in results.items():
    before, after = float(each.relative_l2_raw), float(each.relative_l2_corrected)
    print(f"{name:10} raw {before:.4f}   corrected {after:.2g}")
    assert after < 0.2 * before

# %%
figure, axis = plt.subplots()
place = np.arange(len(names))
for shift, label in ((-0.2, "raw"), (0.2, "corrected")):
    errors = [float(getattr(results[name], f"relative_l2_{label}")) for name in names]
    axis.bar(place + shift, errors, 0.38, label=label)
axis.set_xticks(place, names)
axis.set(yscale="log", ylabel="relative error of the product")
axis.legend()
plt.show()
