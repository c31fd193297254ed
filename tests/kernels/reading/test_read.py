"""Reading strips, against a loop over tiles and cells."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import (
    Strips,
    read_strips,
    strip_currents,
    strips_from_tiles,
    tiles_from_strips,
)
from sedma_jax.kernels._reading import read as _read
from tolerances import gamma, mean_atol, var_atol

INPUTS, OUTPUTS, ROWS, COLS = 4, 3, 6, 5
LINES = OUTPUTS * COLS
KEY = jr.key(5)


def strips_of(tiles, width, **other):
    """Tiles of a full grid (inputs, outputs, rows, cols), `width` to a strip."""
    flat = jnp.asarray(tiles).reshape(-1, ROWS, COLS)
    place = np.arange(INPUTS * OUTPUTS)[::width]
    inputs = jnp.asarray(place // OUTPUTS, jnp.int32)
    fields = dict(
        variance=None,
        higher_order=None,
        scale=jnp.ones((len(place), width * COLS)),
        full_scale=None,
        bits=None,
    )
    return Strips(
        strips_from_tiles(flat, width),
        inputs=inputs,
        start=jnp.asarray(place % OUTPUTS * COLS, jnp.int32),
        number=inputs,
        cols=COLS,
        paired=width == OUTPUTS,
        **(fields | other),
    )


@pytest.fixture(scope="module")
def tiles():
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (INPUTS, OUTPUTS, ROWS, COLS))


def voltages(batch):
    return np.random.default_rng(batch).uniform(-1, 1, (INPUTS, batch, ROWS))


def test_strips_hold_the_tiles(tiles):
    flat = tiles.reshape(-1, ROWS, COLS)
    for width in (1, OUTPUTS):
        strips = strips_from_tiles(jnp.asarray(flat), width)
        assert strips.shape == (len(flat) // width, width * COLS, ROWS)
        np.testing.assert_array_equal(tiles_from_strips(strips, COLS), flat)


@pytest.mark.parametrize("width", [1, OUTPUTS])
@pytest.mark.parametrize("batch", [2, 7])
def test_currents_are_converted_scaled_and_added(tiles, width, batch):
    v, rng = voltages(batch), np.random.default_rng(1)
    scale = rng.uniform(1, 2, (INPUTS, OUTPUTS, COLS))
    full_scale = rng.uniform(0.5, 2, (INPUTS, OUTPUTS, COLS))
    full_scale[0, 0, 0] = 0  # a line that never carries current
    strips = strips_of(
        tiles,
        width,
        scale=jnp.asarray(scale.reshape(-1, width * COLS)),
        full_scale=jnp.asarray(full_scale.reshape(-1, width * COLS)),
        bits=jnp.full(INPUTS * OUTPUTS // width, 5),
    )
    y = read_strips(strips, jnp.asarray(v), 0.0, LINES, key=KEY)
    expected = np.zeros((batch, OUTPUTS, COLS))
    for i in range(INPUTS):
        for o in range(OUTPUTS):
            lsb = full_scale[i, o] / 15
            with np.errstate(divide="ignore", invalid="ignore"):
                code = np.clip(np.round(v[i] @ tiles[i, o] / lsb), -15, 15)
            expected[:, o] += np.where(lsb > 0, code * lsb, 0) * scale[i, o]
    np.testing.assert_allclose(y, expected.reshape(batch, LINES), rtol=1e-12, atol=1e-12)


def test_an_automatic_range_holds_the_largest_current_of_a_tile_and_a_vector(tiles):
    v = voltages(7)
    currents = np.einsum("ibr,iorc->iobc", v, tiles)
    lsb = np.abs(currents).max(3, keepdims=True) / 31
    expected = (np.round(currents / lsb) * lsb).sum(0).swapaxes(0, 1).reshape(7, LINES)
    automatic = strips_of(tiles, OUTPUTS, bits=jnp.full(INPUTS, 6))
    y = read_strips(automatic, jnp.asarray(v), 0.0, LINES, key=KEY)
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-12)


def test_noise_does_not_depend_on_the_layout_or_the_batch(tiles):
    v = jnp.asarray(voltages(7))
    wide, narrow = strips_of(tiles, OUTPUTS), strips_of(tiles, 1)
    y = np.asarray(read_strips(wide, v, 0.1, LINES, key=KEY))
    bound = 4 * gamma(60, np.float64) * LINES
    for strips, part in (
        (narrow, v),
        (wide, v[:, :3]),
        (narrow, v[:, :3]),
        (dataclasses.replace(wide, paired=False), v),
    ):
        other = read_strips(strips, part, 0.1, LINES, key=KEY)
        np.testing.assert_allclose(other, y[: part.shape[1]], rtol=0, atol=bound)
    # The same draws as of single currents, before they are added.
    currents = strip_currents(wide, v, 0.1, key=KEY)
    np.testing.assert_allclose(np.sum(currents, axis=0), y, rtol=0, atol=bound)
    assert np.std(y - read_strips(wide, v, 0.0, LINES, key=KEY)) > 0.1


def test_strips_are_read_alike_one_by_one_and_all_at_once(tiles, monkeypatch):
    v, bound = jnp.asarray(voltages(7)), 4 * gamma(60, np.float64) * LINES
    cases = [(strips_of(tiles, w), sigma) for w in (OUTPUTS, 1) for sigma in (0.0, 0.1)]
    read = lambda: [read_strips(s, v, sigma, LINES, key=KEY) for s, sigma in cases]
    together = read()
    monkeypatch.setattr(_read, "_HELD", 0)
    for y, expected in zip(read(), together, strict=True):
        np.testing.assert_allclose(y, expected, rtol=0, atol=bound)
    assert np.std(together[1] - together[0]) > 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_has_the_variance_of_its_cells(tiles, dtype):
    # Every output of every tile, apart: variance `sigma**2 |v|**2` and that of the states.
    batch = 4000
    v = np.tile(voltages(1), (1, batch, 1)).astype(dtype)
    variance = np.random.default_rng(2).uniform(0, 0.02, tiles.shape).astype(dtype)
    flat = jnp.asarray(variance.reshape(-1, ROWS, COLS))
    strips = strips_of(
        np.zeros_like(tiles, dtype), OUTPUTS, variance=strips_from_tiles(flat, OUTPUTS)
    )
    strips = dataclasses.replace(strips, scale=strips.scale.astype(dtype))
    draw = jax.jit(lambda key: strip_currents(strips, jnp.asarray(v), 0.1, key=key))
    noise = np.asarray(draw(KEY)).astype(np.float64)
    power = v[:, 0].astype(np.float64) ** 2
    states = np.einsum("ir,iorc->ioc", power, variance)
    expected = 0.01 * power.sum(1)[:, None, None] + states
    z = noise / np.sqrt(expected.reshape(INPUTS, 1, LINES))
    n = z.size
    assert abs(z.mean()) < mean_atol(1, n)
    assert abs(z.var() - 1) < var_atol(1, n)
    # Word lines, vectors and outputs have noise of their own.
    for a, b in ((z[:-1], z[1:]), (z[:, :-1], z[:, 1:]), (z[..., :-1], z[..., 1:])):
        assert abs(np.mean(a * b)) < mean_atol(1, a.size)
    assert draw(KEY).dtype == dtype


def test_keys_of_any_kind_read(tiles):
    v = jnp.asarray(voltages(2))
    strips = strips_of(tiles, OUTPUTS)
    a, b = (
        read_strips(strips, v, 0.1, LINES, key=jr.key(1, impl=kind))
        for kind in ("rbg", "threefry2x32")
    )
    assert np.isfinite(a).all() and not np.array_equal(a, b)
