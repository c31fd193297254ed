"""Every analog layer against the digital one, and what JAX does to it."""

import dataclasses
import functools
import io

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from tolerances import gamma, var_atol

import sedma_jax as sj
from sedma_jax.nn import analogize, digitize, with_read_keys

# Pulses so fine that what is accepted is the target to rounding; reads draw nothing.
IDEAL = sj.Device(0.0, 1e-5, 2**60, 2**60)
NOISY = dataclasses.replace(sj.devices.EPIRAM, sigma_read=0.02)
FAST = dict(scheme=sj.sampled_rewrite, array=(8, 4))
everything = lambda path, layer: True


def layer_of(name, dtype, key):
    """A digital layer, and the arguments of one call."""
    own = dict(dtype=dtype, key=key)
    draw = lambda *shape: jr.normal(jr.fold_in(key, 1), shape, dtype)
    if name == "linear":
        return eqx.nn.Linear(11, 5, **own), (draw(11),)
    if name == "scalar":
        return eqx.nn.Linear("scalar", "scalar", **own), (draw(),)
    if name == "conv1d":
        conv = eqx.nn.Conv1d(3, 5, 4, stride=2, padding=((1, 2),), use_bias=False, **own)
        return conv, (draw(3, 9),)
    if name == "conv2d":
        conv = eqx.nn.Conv2d(4, 6, (3, 2), groups=2, dilation=(1, 2), padding="SAME", **own)
        return conv, (draw(4, 5, 6),)
    if name == "conv3d":
        conv = eqx.nn.Conv3d(2, 3, 2, padding=1, padding_mode="CIRCULAR", **own)
        return conv, (draw(2, 3, 4, 3),)
    if name == "transposed":
        how = dict(stride=(2, 1), padding=((1, 0), (0, 1)), output_padding=(1, 0))
        conv = eqx.nn.ConvTranspose2d(4, 6, (3, 2), dilation=(1, 2), groups=2, **how, **own)
        return conv, (draw(4, 3, 4),)
    if name == "circular":
        how = dict(stride=2, padding="SAME", padding_mode="CIRCULAR", use_bias=False)
        return eqx.nn.ConvTranspose1d(2, 3, 4, **how, **own), (draw(2, 5),)
    if name == "lstm":
        return eqx.nn.LSTMCell(7, 3, **own), (draw(7), (draw(3), draw(3)))
    if name == "gru":
        return eqx.nn.GRUCell(7, 3, **own), (draw(7), draw(3))
    if name == "embedding":
        return eqx.nn.Embedding(10, 5, **own), (jnp.asarray(7),)
    attention = eqx.nn.MultiheadAttention(
        2, 6, key_size=4, value_size=3, output_size=5, use_query_bias=True, **own
    )
    return attention, (draw(5, 6), draw(3, 4), draw(3, 3), jnp.tri(5, 3, dtype=bool))


LAYERS = "linear", "scalar", "conv1d", "conv2d", "conv3d", "embedding", "attention"
each_layer = pytest.mark.parametrize("name", LAYERS)
MORE = "transposed", "circular", "lstm", "gru"


@functools.cache
def case(name, dtype=np.float64, device=IDEAL):
    digital, inputs = layer_of(name, dtype, jr.key(3))
    analog = analogize(digital, device, where=everything, key=jr.key(1), **FAST)
    return digital, analog, inputs


def in_double(tree):
    double = lambda leaf: leaf.astype(np.float64) if eqx.is_inexact_array(leaf) else leaf
    return jax.tree.map(double, tree)


def arrays_of(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def size_of(tree):
    """The largest magnitude of the weights, times the terms of the longest sum."""
    return max(float(jnp.abs(leaf).max()) * leaf.size for leaf in arrays_of(tree))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name in LAYERS for dtype in (np.float32, np.float64)]
    + [(name, np.float64) for name in MORE],
)
def test_ideal_arrays_compute_what_the_digital_layer_does(name, dtype):
    digital, analog, inputs = case(name, dtype)
    y = analog(*inputs)
    expected = in_double(digital)(*in_double(inputs))
    if name == "lstm":
        y, expected = jnp.stack(y), jnp.stack(expected)
    assert y.shape == expected.shape and y.dtype == dtype
    # Sums of at most 24 terms, in attention four of them chained.
    bound = gamma(4 * 24, dtype) * size_of(digital)
    np.testing.assert_allclose(y, expected, rtol=0, atol=bound)
    # Weights are in units of the scale of their bit line, and come back from them.
    back = digitize(analog)
    assert type(back) is type(digital)
    for got, weight in zip(*map(arrays_of, (back, digital)), strict=True):
        assert got.dtype == weight.dtype
        atol = gamma(16, dtype) * float(jnp.abs(weight).max())
        np.testing.assert_allclose(got, weight, rtol=0, atol=atol)


@pytest.mark.parametrize("corrected", (False, True))
def test_linear_layer_against_numpy(corrected):
    digital, (x,) = layer_of("linear", np.float64, jr.key(3))
    linear = sj.Device(0.0, 1e-5, 2**20, 2**20)
    # Closed loop, pulse by pulse: within half a pulse of a weight, and of an input.
    options = dict(array=(8, 4), corrected=corrected, lam=0.0)
    analog = analogize(digital, linear, key=jr.key(1), **options)
    y = analog(x, key=jr.key(0))
    weight, bias, x = (np.asarray(v) for v in (digital.weight, digital.bias, x))
    error = np.abs(y - (weight @ x + bias)).max()
    pulse = np.abs(weight).max() * np.abs(x).sum() / 2**20
    # The first order cancels, and leaves the product of both errors.
    second_order = pulse / 2**20 * len(x) + gamma(40, np.float64) * len(x)
    assert error < second_order if corrected else second_order < error < pulse


@each_layer
def test_jit_and_vmap(name):
    _, noisy, inputs = case(name, device=NOISY)
    keys = jr.split(jr.key(5), 2)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), inputs)
    run = lambda inputs, key: noisy(*inputs, key=key)
    ys = jax.jit(jax.vmap(run))(batch, keys)
    for y, key in zip(ys, keys, strict=True):
        np.testing.assert_allclose(y, run(inputs, key), rtol=0, atol=1e-12)
    assert np.all(ys[0] != ys[1])


@each_layer
def test_gradients_are_those_of_the_digital_layer(name):
    digital, _, inputs = case(name)
    floating, rest = eqx.partition((digital, inputs), eqx.is_inexact_array)

    def gradients(convert):
        def loss(floating):
            layer, inputs = eqx.combine(floating, rest)
            return jnp.sum(jnp.sin(convert(layer)(*inputs)))

        return jax.tree.leaves(jax.jit(jax.grad(loss))(floating))

    # In inputs and, straight through programming, in weights and biases.
    options = FAST | dict(where=everything, key=jr.key(1))
    got = gradients(lambda layer: analogize(layer, IDEAL, **options))
    expected = gradients(lambda layer: layer)
    bound = gamma(400, np.float64) * size_of(digital)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=bound)


@each_layer
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_serialisation_gives_the_same_numbers(name, dtype):
    digital, noisy, inputs = case(name, dtype, NOISY)
    noisy = with_read_keys(noisy, key=jr.key(8))
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, noisy)
    file.seek(0)
    # Other weights on another device: all that counts is in the file.
    other = jax.tree.map(lambda x: 2 * x if eqx.is_inexact_array(x) else x, digital)
    like = analogize(other, IDEAL, where=everything, key=jr.key(2), **FAST)
    like = with_read_keys(like, key=jr.key(3))
    back = eqx.tree_deserialise_leaves(file, like)
    for key in (None, jr.key(9)):
        y = noisy(*inputs, key=key)
        np.testing.assert_array_equal(back(*inputs, key=key), y)
        assert np.any(like(*inputs, key=key) != y)


@each_layer
def test_read_noise_follows_its_key(name):
    _, noisy, inputs = case(name, device=NOISY)
    y = noisy(*inputs, key=jr.key(0))
    np.testing.assert_array_equal(noisy(*inputs, key=jr.key(0)), y)
    # Every entry has a draw of its own.
    assert np.all(noisy(*inputs, key=jr.key(1)) != y)
    keyed = [with_read_keys(noisy, key=jr.key(seed)) for seed in (0, 0, 1)]
    first, again, other = (layer(*inputs) for layer in keyed)
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)
    with pytest.raises(ValueError, match="with_read_keys"):
        noisy(*inputs)
    with pytest.raises(ValueError, match="with_read_keys"):
        with_read_keys(keyed[0], key=None)(*inputs)


def test_the_matrices_of_a_cell_draw_apart():
    _, cell, (x, h) = case("gru", device=NOISY)
    y = cell(x, h, key=jr.key(0))
    assert np.all(cell(x, h, key=jr.key(1)) != y)
    keyed = with_read_keys(cell, key=jr.key(2))
    assert np.any(keyed.weight_ih.read_key != keyed.weight_hh.read_key)
    assert np.all(keyed(x, h) != y)
    with pytest.raises(ValueError, match="with_read_keys"):
        cell(x, h)


def test_read_noise_has_the_law_of_the_device():
    _, noisy, (x,) = case("linear", device=NOISY)
    n = 2000
    layer = with_read_keys(noisy, key=jr.key(4))
    ys = jax.jit(jax.vmap(layer))(jnp.broadcast_to(x, (n, 11)))
    # 11 inputs are two blocks of word lines, each with scales and draws of its own.
    scale = np.asarray(noisy.matrix.crossbar.scale).reshape(2, -1)[:, :5]
    squares = [np.sum(np.square(part)) for part in (x[:8], x[8:])]
    variance = 2 * 0.02**2 * np.square(scale).T @ squares
    ratio = np.var(ys, axis=0, ddof=1) / variance
    np.testing.assert_allclose(ratio, 1, rtol=0, atol=var_atol(1.0, n))
