# %% [markdown]
# # IR drop in a 128 x 128 array
#
# Wires are not free: each piece of *word line* (the driven rows) and *bit line* (the
# columns that collect current) between two cells has a resistance of an ohm or so, and the
# current through it lowers the voltage that reaches the cells behind. That is *IR drop*. It
# is worst far from the drivers, and grows with the conductance of the cells and the size of
# the array.
#
# The study solves the wires of a 128 x 128 array exactly, as badcrossbar and CrossSim do,
# and asks what it does to a product and to a classifier.
#
# There are 104 lines of code on this page, nodal analysis, classifier, checks and figures
# included; CrossSim's product takes 15.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import sedma_jax as sj

SIZE = 128
key = jax.random.key(0)
A = np.random.default_rng(0).uniform(-1, 1, (SIZE, SIZE)).astype(np.float32)
X = np.random.default_rng(1).uniform(-1, 1, (32, SIZE)).astype(np.float32)
exact = X @ A.T
device = sj.noise_models.window(0.0, 100e-6)  # cells up to 100 uS, 10 kOhm
crossbar = sj.program_exactly(A, device, array=SIZE, scaling="global_scale")


def error(Y):
    return float(np.linalg.norm(Y - exact) / np.linalg.norm(exact))


# %% [markdown]
# ## Exact and estimated
#
# `with_line_resistance` returns a crossbar whose cells have *effective* conductances: what
# each contributes through the wires. `with_approximate_line_resistance` estimates them by
# one solve for equal inputs, much cheaper, and good while the drop is small.

# %%
ohms = np.array([0.1, 0.3, 1.0, 3.0])
exactly, estimated = [], []
for ohm in ohms:
    wired = sj.with_line_resistance(crossbar, ohm, ohm)
    close = sj.with_approximate_line_resistance(crossbar, ohm, ohm)
    exactly.append(error(sj.matvec(wired, X, key=key)))
    estimated.append(error(sj.matvec(close, X, key=key)))
    print(f"{ohm:4.1f} ohm: error {exactly[-1]:.4f}, estimated wires {estimated[-1]:.4f}")

# %% [markdown]
# While the drop is small, it is in proportion to the resistance: three times the ohms,
# about three times the error. Later it saturates, since less voltage drives less current.

# %%
growth = exactly[1] / exactly[0]
print(f"three times 0.1 ohm: {growth:.2f} times the error")
assert 2.7 < growth < 3.0 and np.all(np.diff(exactly) > 0)

# %% [markdown]
# An independent check, on an array small enough to write all of Kirchhoff's equations
# down: one node at each cell on the word line, one on the bit line.


# %%
def currents_by_nodes(G, r, volts):
    """Bit-line currents of one crossbar, from a dense nodal analysis in float64."""
    rows, cols = G.shape
    word = np.arange(rows * cols).reshape(rows, cols)
    bit = word + rows * cols
    M, b = np.zeros((2 * G.size, 2 * G.size)), np.zeros(2 * G.size)

    def join(p, q, g):
        M[p, p] += g
        M[q, q] += g
        M[p, q] -= g
        M[q, p] -= g

    for i in range(rows):
        M[word[i, 0], word[i, 0]] += 1 / r  # the driver, by one piece of wire
        b[word[i, 0]] += volts[i] / r
        for j in range(cols):
            join(word[i, j], bit[i, j], G[i, j])
            if j + 1 < cols:
                join(word[i, j], word[i, j + 1], 1 / r)
            if i + 1 < rows:
                join(bit[i, j], bit[i + 1, j], 1 / r)
    for j in range(cols):
        M[bit[-1, j], bit[-1, j]] += 1 / r  # virtual ground of the converter
    return np.linalg.solve(M, b)[bit[-1]] / r


small = sj.program_exactly(A[:6, :8], device, array=(8, 6), scaling="global_scale")
wires = sj.with_line_resistance(small, 50.0, 50.0)
x = X[0, :8].astype(np.float64)
by_hand = [
    currents_by_nodes(np.asarray(g, np.float64), 50.0, x) for g in small.conductance[0]
]
ours = np.einsum("i,pij->pj", x, np.asarray(wires.conductance[0], np.float64))
worst = np.max(np.abs(ours - by_hand)) / np.max(np.abs(by_hand))
print(f"greatest difference from nodal analysis {worst:.1e}")
# 96 nodes in float32, whose conductances span from a cell to a wire (20 mS / 1 uS).
assert worst < 96 * 2**-24 * 20e-3 / 1e-6

# %% [markdown]
# ## Where it is lost

# %%
wired = sj.with_line_resistance(crossbar, 1.0, 1.0)
full = sj.with_conductance(crossbar, jnp.full_like(crossbar.conductance, device.g_max / 2))
through = sj.with_line_resistance(full, 1.0, 1.0).conductance[0, 0] / (device.g_max / 2)
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.1))
image = left.imshow(100 * (1 - through))
left.set(
    xlabel="bit line", ylabel="word line", title="Current lost, all cells at 50 uS, 1 ohm"
)
left.title.set_fontsize(9)
left.grid(False)
figure.colorbar(image, ax=left, label="%")
right.loglog(ohms, exactly, "o-", label="exact wires")
right.loglog(ohms, estimated, "s--", label="estimated wires")
right.loglog(ohms, exactly[0] * ohms / ohms[0], ":", color="grey", label="in proportion")
right.set(xlabel="wire between two cells, ohm", ylabel="relative error of the product")
right.legend()
plt.show()
# Drivers are at bit line 0 and converters at the last word line: the far corner loses most.
assert np.unravel_index(np.argmin(through), through.shape) == (0, SIZE - 1)

# %% [markdown]
# ## What a classifier loses
#
# A classifier of handwritten digits (8 x 8 pixels, scikit-learn's): 128 random features of
# the pixels on one array, and ten scores of the features, by least squares, on another.

# %%
digits = sj.data.digits()
pixels = digits.images.reshape(-1, 64)
R = np.random.default_rng(2).normal(size=(SIZE, 64)).astype(np.float32)
features = np.maximum(pixels @ R.T, 0)
one_hot = np.eye(10, dtype=np.float32)[digits.labels]
gram = features[360:].T @ features[360:]
W = np.linalg.solve(gram + 100 * np.eye(SIZE), features[360:].T @ one_hot[360:]).T
layers = [
    sj.program_exactly(weights.astype(np.float32), device, array=SIZE) for weights in (R, W)
]


def share_right(ohm):
    first, second = (sj.with_line_resistance(layer, ohm, ohm) for layer in layers)
    seen = jnp.maximum(sj.matvec(first, pixels[:360], key=key), 0)
    scores = np.asarray(sj.matvec(second, seen, key=key))
    return float(np.mean(scores.argmax(axis=1) == digits.labels[:360]))


accuracy = {ohm: share_right(ohm) for ohm in (0.0, 1.0, 3.0, 10.0)}
for ohm, right_share in accuracy.items():
    print(f"{ohm:4.1f} ohm: {right_share:.3f} of 360 digits right")
digital = np.mean((features[:360] @ W.T).argmax(axis=1) == digits.labels[:360])
assert abs(accuracy[0.0] - digital) <= 1 / 360  # wires without resistance lose nothing
assert accuracy[10.0] < accuracy[0.0] - 0.05

# %%
figure, axis = plt.subplots()
axis.semilogx([*accuracy][1:], [*accuracy.values()][1:], "o-", label="through wires")
axis.set_xticks([1, 3, 10], ["1", "3", "10"])
axis.axhline(digital, color="grey", linestyle=":", label="digital")
axis.set(xlabel="wire between two cells, ohm", ylabel="share of digits told right")
axis.legend()
plt.show()
