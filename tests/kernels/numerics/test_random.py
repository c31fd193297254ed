"""Counter-based draws against `jax.random`, published vectors and the exact laws."""

import math

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest
import scipy.special
import scipy.stats
from sedma_jax.kernels import normal, normal_pair
from sedma_jax.kernels._numerics.cipher import cipher_block
from sedma_jax.kernels._numerics.random import (
    _index,
    bits,
    normal_at,
    truncated_normal,
    uniform,
)
from tolerances import Z, gamma, kolmogorov_smirnov, mean_atol, var_atol

DTYPES = ("float32", "float64")
SHAPES = ((), (0,), (2, 3, 5), (256, 256))


def _identical(left, right):
    np.testing.assert_array_equal(np.asarray(left), np.asarray(right), strict=True)


def _plane(n, dtype):
    """`n` points of `normal_pair`, as float64 NumPy columns."""
    pair = normal_pair(jr.key(2011), (n,), dtype)
    return np.stack([np.asarray(z, np.float64) for z in pair])


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),  # as published with Random123
        ((2**32 - 1, 0), (0, 0), None),
        ((0, 5), (0x13198A2E, 0x03707344), None),
    ],
)
def test_cipher(counter, key, expected):
    stream, cell = counter
    key = jr.wrap_key_data(jnp.asarray(key, jnp.uint32))
    words = [int(w[cell]) for w in cipher_block(key, _index((cell + 1,)), stream)]
    assert words == list(expected or _threefry(counter, jr.key_data(key).tolist()))


def _threefry(counter, key):
    """Threefry-2x32-20 in Python integers, a round at a time (Salmon et al., 3.2)."""
    mask = 2**32 - 1
    schedule = [*key, 0x1BD11BDA ^ key[0] ^ key[1]]
    x = [(c + k) & mask for c, k in zip(counter, schedule, strict=False)]
    for r in range(20):
        rotation = (13, 15, 26, 6, 17, 29, 16, 24)[r % 8]
        x[0] = (x[0] + x[1]) & mask
        x[1] = ((x[1] << rotation) & mask | x[1] >> (32 - rotation)) ^ x[0]
        if r % 4 == 3:
            j = r // 4 + 1
            x[0] = (x[0] + schedule[j % 3]) & mask
            x[1] = (x[1] + schedule[(j + 1) % 3] + j) & mask
    return x


def test_python_cipher_gives_the_published_answers():
    # Known answers of threefry2x32-20, published with Random123 (Salmon et al. 2011).
    ones = (2**32 - 1,) * 2
    assert _threefry(ones, ones) == [0x1CB996FC, 0xBB002BE7]
    pi = (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344)
    assert _threefry(*pi) == [0xC4923A9C, 0x483DF7A0]


@pytest.mark.parametrize("shape", SHAPES)
def test_same_bits_as_jax(shape):
    key = jr.key(7)
    for dtype in ("uint32", "uint64"):
        _identical(bits(key, shape, dtype), jr.bits(key, shape, dtype))
    for dtype in DTYPES:
        _identical(uniform(key, shape, dtype), jr.uniform(key, shape, dtype))
        _identical(normal(key, shape, dtype), jr.normal(key, shape, dtype))


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_other_keys_go_to_jax(implementation):
    key = jr.key(7, impl=implementation)
    _identical(bits(key, (8,)), jr.bits(key, (8,), "uint32"))
    _identical(uniform(key, (8,), "float32"), jr.uniform(key, (8,), "float32"))
    _identical(normal(key, (8,), "float32"), jr.normal(key, (8,), "float32"))
    first, second = normal_pair(key, (8,), "float32")
    assert not np.any(np.asarray(first) == np.asarray(second))
    assert np.all(np.abs(truncated_normal(key, 0.5, (8,), "float32")) <= 0.5)


@pytest.mark.slow  # bits
@pytest.mark.parametrize(
    "draw",
    [
        lambda key: bits(key, (6, 11)),
        lambda key: normal(key, (6, 11), "float32"),
        lambda key: truncated_normal(key, 1.5, (6, 11), "float32"),
        lambda key: normal_pair(key, (6, 11), "float32")[0],
        lambda key: normal_pair(key, (6, 11), "float32")[1],
    ],
)
def test_a_tile_is_the_same_wherever_it_is_drawn(draw):
    root = jr.key(3)
    tiles = jnp.arange(4, dtype=jnp.uint32)
    keys = jax.vmap(jr.fold_in, (None, 0))(root, tiles)
    alone = np.stack([draw(jr.fold_in(root, tile)) for tile in tiles])

    def grow(carry):
        i, drawn = carry
        return i + 1, drawn.at[i].set(draw(jr.fold_in(root, i)))

    empty = (jnp.uint32(0), jnp.zeros(alone.shape, alone.dtype))
    _identical(jax.vmap(draw)(keys), alone)
    _identical(jax.jit(jax.vmap(draw))(keys), alone)
    _identical(lax.map(draw, keys), alone)
    _identical(lax.map(draw, keys, batch_size=2), alone)
    _identical(lax.while_loop(lambda carry: carry[0] < 4, grow, empty)[1], alone)
    _identical(jax.vmap(draw)(jr.split(root, 4))[2], draw(jr.split(root, 4)[2]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_pair_is_the_polar_form_of_its_words(dtype):
    n = 20_000
    key = jr.key(5)
    pair = normal_pair(key, (n,), dtype)
    words = [cipher_block(key, _index((n,)), stream) for stream in (0, 1)]
    width = 32 if dtype == "float32" else 64
    if width == 32:
        radial, angular = (np.asarray(w, np.uint64) for w in words[0])
    else:
        join = lambda w: np.asarray(w[0], np.uint64) << 32 | np.asarray(w[1], np.uint64)
        radial, angular = map(join, words)
    kept = 31 if width == 32 else 53
    t = ((radial >> (width - kept)).astype(np.longdouble) + 0.5) / 2.0**kept
    radius = np.sqrt(-2 * np.log(t))
    # Two's complement of the angle without its leading two bits, in eighths of a turn.
    unit = (angular << (66 - width if width == 64 else 34)).view(np.int64)
    angle = unit.astype(np.longdouble) * (np.longdouble(np.pi) / 4 / 2.0**63)
    turn = (angular >> (width - 2)).astype(int)  # of (z1, z2) by a quarter, or a half
    c, s = np.cos(angle), np.sin(angle)
    first = np.where(turn < 2, c, -s) * np.where(turn % 2, -1, 1) * radius
    second = np.where(turn < 2, s, c) * np.where(turn % 2, -1, 1) * radius
    # Roundings: t, its logarithm (4 ulp), square root, angle, series, product. Near t = 1
    # the rounding of t moves r**2 = -2 log t by 2u, hence r by u / r.
    u = np.finfo(dtype).eps / 2
    atol = gamma(16, dtype) * radius + 4 * u / radius
    assert np.all(np.abs(np.asarray(pair[0]) - first) <= atol)
    assert np.all(np.abs(np.asarray(pair[1]) - second) <= atol)


@pytest.mark.slow
def test_pair_law_of_ten_million():
    z = _plane(5_000_000, "float32")
    n = z.size
    distance = scipy.stats.ks_1samp(z.ravel(), scipy.stats.norm.cdf, method="asymp")
    assert distance.statistic < kolmogorov_smirnov(n)


def test_pair_moments():
    z = _plane(1_000_000, "float32")
    n = z.size
    double = lambda k: math.prod(range(k - 1, 0, -2))  # E z**k, k even
    assert abs(z.mean()) < mean_atol(1.0, n)
    assert abs(z.var() - 1) < var_atol(1.0, n)
    for k in range(1, 9):
        exact = 0 if k % 2 else double(k)
        std = math.sqrt(double(2 * k) - exact**2)
        assert abs((z**k).mean() - exact) < mean_atol(std, n), k


@pytest.mark.parametrize("dtype", DTYPES)
def test_pair_tails(dtype):
    z = np.abs(_plane(4_000_000, dtype))
    for sigma in (3.0, 4.0, 5.0):
        p = 2 * scipy.stats.norm.sf(sigma)
        # Exact two-sided binomial limits: few are expected beyond 5.
        low, high = scipy.stats.binom.interval(1 - 1e-6, z.size, p)
        assert low <= np.sum(z > sigma) <= high, sigma


def test_pair_is_uncorrelated():
    z = _plane(1_000_000, "float32")
    n = z.shape[1]
    # Correlations of degree one and two, within the pair and between neighbours.
    for a, b in ((z[0], z[1]), (z[0, 1:], z[0, :-1]), (z[0, 1:], z[1, :-1])):
        assert abs((a * b).mean()) < mean_atol(1.0, n - 1)
        assert abs(((a**2 - 1) * (b**2 - 1)).mean()) < mean_atol(2.0, n - 1)
    quarter = np.histogram2d(np.sign(z[0]), np.sign(z[1]), 2)[0]
    assert np.all(np.abs(quarter / n - 0.25) < Z * math.sqrt(3) / 4 / math.sqrt(n))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bound", [1e-3, 0.1, 1.0, 3.0, 8.0])
def test_truncated_normal_law(bound, dtype):
    n = 200_000
    z = truncated_normal(jr.key(11), bound, (n,), dtype)
    assert z.dtype == dtype
    z = np.asarray(z, np.float64)
    assert np.max(np.abs(z)) <= float(np.dtype(dtype).type(bound))
    mass = scipy.special.erf(bound / math.sqrt(2))
    law = lambda x: (1 + scipy.special.erf(x / math.sqrt(2)) / mass) / 2
    distance = scipy.stats.ks_1samp(z, law, method="asymp").statistic
    assert distance < kolmogorov_smirnov(n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_truncated_normal_keeps_its_accuracy_in_a_narrow_band(dtype):
    n, bound = 10_000, 1e-3
    key = jr.key(12)
    z = np.asarray(truncated_normal(key, bound, (n,), dtype), np.float64)
    u = np.asarray(uniform(key, (n,), dtype), np.float64)
    u = 2 * u + float(np.nextafter(np.dtype(dtype).type(-1), np.dtype(dtype).type(0)))
    exact = math.sqrt(2) * scipy.special.erfinv(u * scipy.special.erf(bound / math.sqrt(2)))
    # `erf` and `erf_inv` to 8 ulp each, and the roundings of four products.
    np.testing.assert_allclose(z, exact, rtol=gamma(36, dtype), atol=0)


def test_truncated_normal_of_a_wide_band_is_normal():
    key = jr.key(13)
    wide = truncated_normal(key, 9.0, (100,), "float64")
    _identical(wide, normal(key, (100,), "float64"))


def test_truncated_normal_with_a_bound_for_each_cell():
    bound = jnp.linspace(0, 4, 50).reshape(5, 10)
    key = jr.key(14)
    z = truncated_normal(key, bound, (5, 10), "float64")
    one = truncated_normal(key, bound[3, 4], (5, 10), "float64")
    assert z[3, 4] == one[3, 4]
    assert z[0, 0] == 0
    # E(z) = u E(b), E(x) = erf(x / sqrt 2): dz/db = u exp((z**2 - b**2) / 2).
    slope = jax.grad(lambda b: truncated_normal(key, b, (), "float64"))(1.3)
    z = truncated_normal(key, 1.3, (), "float64")
    u = scipy.special.erf(z / math.sqrt(2)) / scipy.special.erf(1.3 / math.sqrt(2))
    np.testing.assert_allclose(slope, u * np.exp((z**2 - 1.3**2) / 2), rtol=1e-12)


def test_errors(monkeypatch):
    key = jr.key(0)
    with pytest.raises(ValueError, match=r"uint32 or uint64\. Got uint8"):
        bits(key, (3,), "uint8")
    for draw in (uniform, normal, normal_pair):
        with pytest.raises(ValueError, match=r"float32 or float64\. Got bfloat16"):
            draw(key, (3,), jnp.bfloat16)
    with pytest.raises(ValueError, match=r"Got bounds of shape \(2,\)"):
        truncated_normal(key, jnp.ones(2), (3,), "float64")
    # Else its own error arrives first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        normal(jr.split(key), (3,), "float32")
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64 off"):
        normal(key, (3,), "float64")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_cells_are_those_of_the_whole_array(dtype):
    key = jr.key(12)
    whole = jax.jit(lambda key: normal(key, (37, 11), dtype))(key).ravel()
    index = jnp.array([[406, 0, 17], [5, 5, 300]], jnp.uint32)
    some = jax.jit(lambda key: normal_at(key, index, dtype))(key)
    np.testing.assert_array_equal(some, whole[index])
    with pytest.raises(ValueError, match="needs a Threefry key"):
        normal_at(jr.key(0, impl="rbg"), index, dtype)
