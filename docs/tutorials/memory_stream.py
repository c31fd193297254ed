# %% [markdown]
# # Memory over a stream of matrices
#
# How a matrix is best cut into tiles, and how strongly a corrected product should be
# smoothed (the regularisation parameter *λ*), depends on the kind of matrix and on the
# devices. `sj.memory.adaptive_matvec` learns both from what it measures. It has two
# memories, after which it is called *dual*:
#
# - *long-term memory*, a database: for each class of workload, the choices made and the
#   rewards they brought. It outlives the process, and machines share it.
# - *short-term memory*, a value that is passed from call to call: the last 100 samples. It
#   tells a change of the devices from bad luck.
#
# Here a stream of three matrices comes by five times, on a pool of two kinds of arrays.

# %%
import dataclasses
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse

import sedma_jax as sj

rng = np.random.default_rng(0)
band = scipy.sparse.dia_array((rng.random((5, 96)), [-2, -1, 0, 1, 2]), shape=(96, 96))
i = np.arange(60)
matrices = {
    "smooth 60 x 60": np.exp(-(((i - i[:, None]) / 8) ** 2)).astype(np.float32),
    "tall 120 x 40": rng.random((120, 40), dtype=np.float32),
    "banded 96 x 96": band.tocsr().astype(np.float32),
}
fine, fast = (
    dataclasses.replace(device, sigma_read=0.02)  # noise of each read, 2 % of the range
    for device in (sj.devices.EPIRAM, sj.devices.TAOX_HFOX)
)
pool = sj.Pool(
    (
        sj.ArrayKind(128, 128, 16, fine),
        sj.ArrayKind(32, 32, 64, fast),
    )
)

# %% [markdown]
# ## The stream
#
# `pressure` is the share of the machine's memory in use; it is fixed here, so that choices
# do not depend on what else runs.

# %%
folder = tempfile.TemporaryDirectory()
url = f"sqlite:///{Path(folder.name) / 'patterns.db'}"
REPETITIONS = 5


def stream(memory, short_term, repetitions, start=0):
    records = []
    for repetition in range(start, start + repetitions):
        for number, (name, A) in enumerate(matrices.items()):
            key = jax.random.fold_in(jax.random.key(0), 100 * repetition + number)
            x = jax.random.uniform(key, A.shape[1:])
            _, info, short_term = sj.memory.adaptive_matvec(
                A, x, pool, memory=memory, short_term=short_term, pressure=0.5, key=key
            )
            records.append((repetition, name, info))
    return records, short_term


with sj.memory.open(url) as memory:
    records, short_term = stream(memory, sj.memory.ShortTerm(), REPETITIONS)

for repetition, name, info in records:
    if repetition in (0, REPETITIONS - 1):
        print(
            f"{repetition}  {name:15} {info.strategy:22} recalled {info.recalled:2}, "
            f"reward {info.reward:.3f}, λ {float(info.correction.lam):.1e}"
        )

# %% [markdown]
# In the first round nothing is known of a class: every layout is weighed by a cost model
# (`searched`), and the best is tried. Later rounds recall what was tried, and draw by
# *Thompson sampling*: each layout with the probability that it is the best, as far as the
# rewards so far tell. λ above zero pays where the product is smooth and its noise is not,
# as with the first matrix; elsewhere it stays near zero.

# %%
first = [info for repetition, _, info in records if repetition == 0]
later = [info for repetition, _, info in records if repetition > 0]
assert first[0].recalled == 0 and first[0].searched
assert all(info.recalled > 0 and not info.searched for info in later)
assert all(info.written > 0 for _, _, info in records)
for _, _, info in records:
    assert float(info.correction.lam) >= 0 and np.isfinite(info.reward)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.1))
for name in matrices:
    mine = [(repetition, info) for repetition, n, info in records if n == name]
    rounds = [repetition + 1 for repetition, _ in mine]
    left.plot(rounds, [info.reward for _, info in mine], "o-", label=name)
    right.plot(rounds, [float(i.correction.lam) for _, i in mine], "o-", label=name)
left.set(xlabel="round of the stream", ylabel="reward")
right.set(xlabel="round of the stream", ylabel="λ that was used")
right.set_yscale("symlog", linthresh=1e-4)
left.legend(fontsize=7)
plt.show()

# %% [markdown]
# The *reward* is a logarithm: of the time and memory that the largest arrays side by side
# would take over those of the layout at hand, less a tenth of the logarithms of energy and
# error. One unit more is 2.7 times cheaper. A dip is an exploration that did not pay:
# another layout was drawn, and given up when its reward was known.

# %%
used = {
    name: np.median([float(info.correction.lam) for _, n, info in records if n == name])
    for name in matrices
}
print({name: f"{lam:.1e}" for name, lam in used.items()})
assert used["smooth 60 x 60"] > 10 * max(used["tall 120 x 40"], used["banded 96 x 96"])
for name in matrices:
    rewards = [info.reward for _, n, info in records if n == name]
    assert rewards[-1] > rewards[0] - 0.1  # it goes back to what is good

# %% [markdown]
# ## Another process, another day
#
# The database is all that a new process needs: its first product recalls layouts and what
# was learnt of λ. How much λ leans on that is for the data to say: each product also gives
# an estimate of its own, and where that is sure, memory's share is small.

# %%
with sj.memory.open(url) as memory:
    again, _ = stream(memory, None, 1, start=REPETITIONS)
    kept = len(memory.patterns("partition"))
print(f"{kept} patterns of layouts are kept")
for _, name, info in again:
    lam, alpha = float(info.correction.lam), float(info.correction.choice.alpha)
    share = f"λ {lam:.1e}, {alpha:.0%} of it from long-term memory"
    print(f"{name:15} {info.strategy:22} recalled {info.recalled}, {share}")
    assert info.recalled > 0 and info.neighbour is None and 0 <= alpha <= 1
folder.cleanup()
