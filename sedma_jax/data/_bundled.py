"""Real data that installed packages contain, for use without a data folder."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int, UInt8

from ._images import decode_image
from ._reading import refusing

# The wheel of scikit-image contains these; it downloads its others.
PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "hubble": "hubble_deep_field.jpg",
    "moon": "moon.png",
    "motorcycle": "motorcycle_left.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
    "tissue": "ihc.png",
}
"""The photographs that `photograph` knows, and their files in scikit-image."""


class Digits(eqx.Module):
    """Handwritten digits, from 0 (paper) to 1 (ink), and their labels, 0 to 9.

    **Example:**

        >>> blank = sj.data.Digits(np.zeros((2, 8, 8)), labels=np.array([3, 7]))
        >>> blank.images.shape, blank.labels.tolist()
        ((2, 8, 8), [3, 7])
    """

    images: Float[np.ndarray, "digits 8 8"]
    labels: Int[np.ndarray, " digits"]


def digits() -> Digits:
    """The 1797 handwritten digits of 8 x 8 pixels in scikit-learn, in float32.

    They are the test set of Alpaydin & Kaynak (1998, UCI, optical recognition of
    handwritten digits), by 13 writers who did not contribute to its training set.

    **Example:**

        >>> digits = sj.data.digits()
        >>> digits.images.shape, float(digits.images.max()), int(digits.labels.max())
        ((1797, 8, 8), 1.0, 9)
    """
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    return Digits((found.images / 16).astype(np.float32), found.target.astype(np.int32))


def photograph(name: str) -> UInt8[np.ndarray, "height width 3"]:
    """A photograph from scikit-image, with red, green and blue from 0 to 255.

    **Arguments:**

    - `name`: one of `PHOTOGRAPHS`.

    **Raises:**

    - `ValueError`: if there is no photograph of that name.

    **Example:**

        >>> grey = sj.data.photograph("camera")
        >>> grey.shape, bool((grey[..., 0] == grey[..., 2]).all())  # red is blue
        ((512, 512, 3), True)
    """
    if name not in PHOTOGRAPHS:
        raise ValueError(
            f"`sedma_jax.data.photograph` needs one of {', '.join(PHOTOGRAPHS)}. "
            f"Got {name!r}."
        )
    folder = package_folder("skimage")
    assert folder is not None  # the extra `data` requires it
    path = folder / "data" / PHOTOGRAPHS[name]
    with refusing("photograph", path):
        return np.array(decode_image(path))


def package_folder(name: str) -> Path | None:
    """The folder of an installed package, found without importing it."""
    spec = find_spec(name)
    found = [] if spec is None else spec.submodule_search_locations or []
    return next(map(Path, found), None)
