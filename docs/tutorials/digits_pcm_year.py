# %% [markdown]
# # Digits on phase-change memory, one second to one year
#
# Phase-change cells (PCM) are programmed with an error, drift to lower conductance by a
# power law of time, and are read with noise that grows with time. The statistics here are
# those of `sj.noise_models.PCM`, fitted to a million cells (Joshi et al. 2020), as aihwkit
# has them.
#
# A small convolutional network of handwritten digits is trained, digitally or against the
# noise of the hardware (*hardware-aware*); both are programmed ten times, and read from a
# second to a year later, as they are and with *drift compensation*: known inputs are read
# again, and each bit line is scaled by what its currents have lost.
#
# There are 110 lines of code on this page, checks and figure included; aihwkit's LeNet
# example of the same takes 302.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import sedma_jax as sj

REPEATS, STEPS = 10, 600
TIMES = jnp.array([1.0, 60.0, 3600.0, 86400.0, 2.6e6, 3.15e7])  # seconds
digits = sj.data.digits()
order = np.random.default_rng(0).permutation(len(digits.labels))
images, labels = jnp.asarray(digits.images[order, None]), jnp.asarray(digits.labels[order])
unseen = images[:360], labels[:360]  # the others are for training


class Network(eqx.Module):
    """Two convolutions and a linear layer; a key for each read."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    last: eqx.nn.Linear

    def __init__(self, *, key):
        keys = jr.split(key, 3)
        self.first = eqx.nn.Conv2d(1, 8, 3, padding=1, key=keys[0])
        self.second = eqx.nn.Conv2d(8, 16, 3, padding=1, key=keys[1])
        self.last = eqx.nn.Linear(64, 10, key=keys[2])

    def __call__(self, x, *, key):
        keys = jr.split(key, 3)
        pool = eqx.nn.MaxPool2d(2, 2)
        x = pool(jax.nn.relu(self.first(x, key=keys[0])))
        x = pool(jax.nn.relu(self.second(x, key=keys[1])))
        return self.last(x.ravel(), key=keys[2])


def logits(model, x, key):
    return jax.vmap(lambda x, key: model(x, key=key))(x, jr.split(key, len(x)))


# %% [markdown]
# ## Train
#
# One loop for both: `draw_programming` draws the errors of programming once for each batch,
# and leaves a digital model as it is. `hardware_aware` takes the statistics of PCM too; for
# speed, training here sees the closest of the four materials with
# a coarse acceptance band, whose errors of about 5 % of the window resemble PCM's. `clip`
# limits weights to 2.5 times the root mean square of their bit line, which fills the window
# better.


# %%
@eqx.filter_jit
def trained(model, images, labels, key):
    optimiser = optax.adam(3e-3)
    params, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss(params, x, y, key):
        draw_key, read_key = jr.split(key)
        model = sj.nn.draw_programming(eqx.combine(params, rest), key=draw_key)
        found = logits(model, x, read_key)
        return optax.softmax_cross_entropy_with_integer_labels(found, y).mean()

    def step(carry, key):
        params, state = carry
        batch_key, noise_key = jr.split(key)
        batch = jr.choice(batch_key, len(labels), (64,))
        slope = jax.grad(loss)(params, images[batch], labels[batch], noise_key)
        updates, state = optimiser.update(slope, state)
        return (optax.apply_updates(params, updates), state), None

    carry = params, optimiser.init(params)
    (params, _), _ = jax.lax.scan(step, carry, jr.split(key, STEPS))
    return eqx.combine(params, rest)


keys = jr.split(jr.key(0), 4)
seen = images[360:], labels[360:]
start = trained(Network(key=keys[0]), *seen, keys[1])
digital = trained(start, *seen, keys[2])  # as many steps as the other
band = sj.acceptance_band(sj.devices.EPIRAM, half_width=0.1)
aware = sj.nn.hardware_aware(start, sj.devices.EPIRAM, rule=band, clip=2.5)
aware = sj.nn.plain(trained(aware, *seen, keys[2]))
models = {"digital-trained": digital, "hardware-aware": aware}

# %% [markdown]
# ## Program and age
#
# `analogize` puts every layer on arrays, `age` moves the clock. One function programs, ages
# and reads; `vmap` runs it for all times and all ten programmings, and it compiles once for
# each way.


# %%
@eqx.filter_jit
def accuracies(model, images, labels, keys, reads):
    """Share of digits told right, repeats x times."""

    def one(key, time):
        cells_key, drift_key, read_key = jr.split(key, 3)
        analog = sj.nn.analogize(model, sj.noise_models.PCM, key=cells_key)
        old = sj.nn.age(analog, time, compensation_reads=reads, key=drift_key)
        found = logits(old, images, read_key)
        return jnp.mean(jnp.argmax(found, axis=1) == labels)

    over_times = jax.vmap(one, in_axes=(None, 0))
    return jax.lax.map(lambda key: over_times(key, TIMES), keys)


@eqx.filter_jit
def digital_accuracy(model, images, labels):
    found = logits(model, images, jr.key(0))
    return jnp.mean(jnp.argmax(found, axis=1) == labels)


results = {}
for name, model in models.items():
    print(f"{name}: {float(digital_accuracy(model, *unseen)):.3f} before it is programmed")
    for way, reads in (("raw", 0), ("compensated", 256)):
        found = np.asarray(accuracies(model, *unseen, jr.split(keys[3], REPEATS), reads))
        results[name, way] = found
        spread = "  ".join(
            f"{m:.3f} ± {s:.3f}" for m, s in zip(found.mean(0), found.std(0), strict=True)
        )
        print(f"  {way:12} {spread}")

# %%
figure, axis = plt.subplots(figsize=(6, 3.6))
for (name, way), found in results.items():
    colour = "#0072B2" if name == "digital-trained" else "#D55E00"
    line = "o-" if way == "compensated" else "s--"
    mean, spread = found.mean(axis=0), found.std(axis=0)
    axis.semilogx(TIMES, mean, line, color=colour, label=f"{name}, {way}")
    axis.fill_between(TIMES, mean - spread, mean + spread, color=colour, alpha=0.12)
axis.set_xticks(TIMES, ["1 s", "1 min", "1 h", "1 day", "1 month", "1 year"])
axis.set(xlabel="time since programming", ylabel="share of 360 digits told right")
axis.legend(loc="lower left")
plt.show()

# %% [markdown]
# ## What it says
#
# Bands are one standard deviation over ten programmings. A year costs about a tenth
# uncompensated; scaling the bit lines brings most of it back, since most of the drift is
# common to all cells. Training against the noise helps where nothing compensates. The
# checks are of means over ten programmings, to three standard errors.


# %%
def gain(a, b):
    """Mean difference over programmings in the last year, and its standard error."""
    difference = results[a][:, -1] - results[b][:, -1]
    return difference.mean(), difference.std(ddof=1) / np.sqrt(REPEATS)


for name in models:
    mean, error = gain((name, "compensated"), (name, "raw"))
    print(f"{name}: compensation brings {mean:+.3f} ± {error:.3f} after a year")
    assert mean > 3 * error
    first, last = (results[name, way][:, -1].mean() for way in ("raw", "compensated"))
    fresh = results[name, "raw"][:, 0].mean()
    print(f"  {(last - first) / (fresh - first):.0%} of what was lost")
    assert last - first > 0.5 * (fresh - first)
mean, error = gain(("hardware-aware", "raw"), ("digital-trained", "raw"))
print(f"raw, hardware-aware against digital-trained: {mean:+.3f} ± {error:.3f}")
assert mean > 3 * error
