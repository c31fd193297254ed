"""Data that comes with installed packages."""

import numpy as np
import pytest

from sedma_jax import data


def test_digits_are_the_published_ones():
    digits = data.digits()
    assert digits.images.shape == (1797, 8, 8) and digits.images.dtype == np.float32
    assert digits.images.min() == 0 and digits.images.max() == 1
    # Counts of each class, from the description that UCI publishes (optdigits.tes).
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(digits.labels).tolist() == counts
    # Rows are those of the digit: the zeros have ink around an empty middle.
    zero = digits.images[digits.labels == 0].mean(axis=0)
    assert zero[3:5, 3:5].max() < 0.2 < zero[1:7, [2, 5]].min()


@pytest.mark.parametrize("name", data.PHOTOGRAPHS)
def test_photographs(name):
    image = data.photograph(name)
    assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    assert min(image.shape[:2]) >= 256
    assert 10 < image.std() < 120  # neither flat nor noise


def test_photographs_by_name():
    assert data.photograph("astronaut").shape == (512, 512, 3)
    with pytest.raises(ValueError, match="astronaut, brick"):
        data.photograph("lena")
