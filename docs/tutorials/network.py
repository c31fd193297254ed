# %% [markdown]
# # A network converted, inspected, saved and reloaded
#
# `sj.nn.analogize` puts the matrices of a network of Equinox on crossbar arrays. What comes
# back is a pytree, as the network was: `jit`, `vmap` and `grad` go around it, and it is
# saved as any other. Converting is one line; there are 80 lines of code on
# this page, networks, checks and figure included. Peers' examples of a ResNet and of a
# small GPT take 19 and 357.

# %%
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np

import sedma_jax as sj

keys = jr.split(jr.key(0), 6)

# %% [markdown]
# ## A small transformer and a small ResNet
#
# They are untrained: what counts is how far the analog network is from the digital one.


# %%
class Block(eqx.Module):
    """Attention and a multilayer perceptron, each with a norm and a way around."""

    attention: eqx.nn.MultiheadAttention
    first_norm: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    second_norm: eqx.nn.LayerNorm

    def __init__(self, size, *, key):
        keys = jr.split(key, 3)
        self.attention = eqx.nn.MultiheadAttention(4, size, key=keys[0])
        self.first_norm, self.second_norm = eqx.nn.LayerNorm(size), eqx.nn.LayerNorm(size)
        self.up = eqx.nn.Linear(size, 4 * size, key=keys[1])
        self.down = eqx.nn.Linear(4 * size, size, key=keys[2])

    def __call__(self, x):
        seen = jax.vmap(self.first_norm)(x)
        x = x + self.attention(seen, seen, seen)
        return x + jax.vmap(lambda v: self.down(jax.nn.gelu(self.up(self.second_norm(v)))))(
            x
        )


class Residual(eqx.Module):
    """Two convolutions with a way around."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d

    def __init__(self, channels, *, key):
        keys = jr.split(key)
        self.first = eqx.nn.Conv2d(channels, channels, 3, padding=1, key=keys[0])
        self.second = eqx.nn.Conv2d(channels, channels, 3, padding=1, key=keys[1])

    def __call__(self, x):
        return jax.nn.relu(x + self.second(jax.nn.relu(self.first(x))))


transformer = eqx.nn.Sequential([eqx.nn.Lambda(Block(32, key=k)) for k in keys[:2]])
resnet = eqx.nn.Sequential([eqx.nn.Lambda(Residual(16, key=k)) for k in keys[:2]])
tokens = jr.normal(keys[2], (10, 32))
picture = jr.normal(keys[3], (16, 8, 8))

# %% [markdown]
# ## Convert
#
# These networks pass no keys to their layers, so `with_read_keys` gives every layer a key
# of its own for a read. Layers are known by their path, such as `layers[0].fn.up`: options
# and devices may differ by path.


# %%
def relative(y, exact):
    return float(jnp.linalg.norm(y - exact) / jnp.linalg.norm(exact))


analog = {}
for name, model, x in (("transformer", transformer, tokens), ("resnet", resnet, picture)):
    analog[name] = sj.nn.analogize(model, sj.devices.EPIRAM, array=64, key=keys[4])
    read = eqx.filter_jit(lambda m, x, key: sj.nn.with_read_keys(m, key=key)(x))
    error = relative(read(analog[name], x, keys[5]), model(x))
    print(f"{name}: {error:.1%} from the digital one")
    assert 0 < error < 0.1

# %% [markdown]
# ## Inspect
#
# One record for each layer with weights. Of one on arrays: its tiles, the relative error of
# its weights, what programming took, and the energy of one product. Others stay digital.

# %%
figures = sj.nn.inspect(analog["transformer"], transformer)
print(figures)
on_arrays = [each for each in figures if each.tiles]  # the others stay digital
assert len(on_arrays) == 12  # four of attention and two of the perceptron, in two blocks
assert all(0 < each.error < 0.1 for each in on_arrays)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.4), sharey=True)
names = [each.path.replace("layers", "").replace(".fn", "") for each in on_arrays]
left.barh(names, [100 * each.error for each in on_arrays])
left.set(xlabel="error of the weights, %")
right.barh(names, [1e12 * each.read_energy for each in on_arrays], color="#D55E00")
right.set(xlabel="energy of a product, pJ (cells only)")
left.invert_yaxis()
plt.show()

# %% [markdown]
# ## Save and reload
#
# Equinox writes the leaves; a skeleton of the same shape, here another programming, reads
# them. The reloaded network is the saved one bit by bit: the same cells and the same noise
# for the same key.

# %%
skeleton = sj.nn.analogize(transformer, sj.devices.EPIRAM, array=64, key=jr.key(99))
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "transformer.eqx"
    eqx.tree_serialise_leaves(path, analog["transformer"])
    reloaded = eqx.tree_deserialise_leaves(path, skeleton)
    print(f"{path.stat().st_size / 1024:.0f} KiB")
saved, again, other = (
    np.asarray(sj.nn.with_read_keys(m, key=keys[5])(tokens))
    for m in (analog["transformer"], reloaded, skeleton)
)
assert np.array_equal(saved, again) and not np.array_equal(saved, other)

# %% [markdown]
# ## Back to digital
#
# `digitize` gives layers of Equinox with the weights that the arrays hold. Its error is
# that of programming alone; here reads add nothing, since `epiram` has no read noise by
# default.

# %%
digital = sj.nn.digitize(analog["transformer"])
difference = relative(digital(tokens), jnp.asarray(saved))
print(f"digitised against analog: {difference:.1e}")
assert difference < 1e-4  # rounding, through a dozen products
