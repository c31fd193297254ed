"""Patches of images against a loop over their places."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sedma_jax.kernels import image_patches


def looped(x, kernel, stride, pads, dilation):
    """Entry by entry, in NumPy."""
    x = np.pad(x, [(0, 0), *pads])
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:], reach, stride, strict=True)]
    out = np.zeros((len(x), *kernel, *sizes), x.dtype)
    for place in itertools.product(*map(range, out.shape[1:])):
        offset, at = place[: len(kernel)], place[len(kernel) :]
        where = [
            a * s + o * d for a, s, o, d in zip(at, stride, offset, dilation, strict=True)
        ]
        out[(slice(None), *place)] = x[(slice(None), *where)]
    return out.reshape(-1, *sizes)


CASES = [
    ((7,), (3,), (2,), ((1, 0),), (2,)),
    ((6, 5), (3, 2), (1, 2), ((1, 1), (0, 2)), (1, 1)),
    ((9, 9), (2, 3), (2, 1), ((0, 0), (2, 1)), (3, 2)),
    ((3, 4, 5), (2, 2, 2), (1, 2, 1), ((0, 1), (1, 0), (0, 0)), (1, 1, 2)),
    ((14, 14), (12, 12), (1, 1), ((0, 0), (1, 0)), (1, 1)),  # too many slices
]


@pytest.mark.parametrize(("size", "kernel", "stride", "pads", "dilation"), CASES)
def test_every_entry_is_in_its_place(size, kernel, stride, pads, dilation):
    x = np.random.default_rng(0).normal(size=(2, *size)).astype(np.float32)
    found = image_patches(jnp.asarray(x), kernel, stride, pads, dilation)
    np.testing.assert_array_equal(found, looped(x, kernel, stride, pads, dilation))


@pytest.mark.parametrize("name", ["SAME", "SAME_LOWER", "VALID"])
def test_named_padding_is_that_of_convolutions(name):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5)), jnp.float32)
    filters = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, 2, 3)), jnp.float32)
    how = (2, 1), name
    want = jax.lax.conv_general_dilated(x[None], filters, *how, rhs_dilation=(1, 2))[0]
    cut = image_patches(x, (2, 3), *how, (1, 2))
    found = jnp.tensordot(filters.reshape(3, -1), cut, 1, precision="highest")
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-5)


def test_gradient_counts_how_often_an_entry_is_used():
    x = jnp.ones((1, 4))
    used = jax.grad(lambda x: jnp.sum(image_patches(x, (3,), (1,), "VALID", (1,))))(x)
    np.testing.assert_array_equal(used, [[1, 2, 2, 1]])
