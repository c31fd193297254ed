"""Decode one image at a time, within limits."""

import io
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from .._files.refusal import FileRefusal, damaged
from ._reading import read_bytes

LARGEST_FILE = 2**26  # bytes of one encoded image
_WRITER = "PIL.Image.save"
LARGEST_PIXELS = 2**26  # of one decoded image: 192 MiB in colour


def decode_image(path: Path) -> Image.Image:
    """Decode a JPEG or PNG file to RGB, unless it is larger than the limits."""
    content = read_bytes(path, LARGEST_FILE)
    try:
        with warnings.catch_warnings():
            # Pillow warns about sizes that are refused below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # One training image of ImageNet is a PNG with the name of a JPEG.
            image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
        check_pixels(*image.size)
        return image.convert("RGB")
    except Image.DecompressionBombError as error:
        raise FileRefusal(
            f"an image of at most {LARGEST_PIXELS:,} pixels",
            "one that Pillow takes for a decompression bomb",
            "Do not use such a file, or shrink it first.",
        ) from error
    except UnidentifiedImageError as error:  # its message quotes a memory address
        raise damaged("JPEG or PNG", "its first bytes are of neither", _WRITER) from error
    # Pillow raises any of these for damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
        raise damaged("JPEG or PNG", error, _WRITER) from error


def check_pixels(width: int, height: int) -> None:
    """Refuse more pixels than the limit, before they are allocated."""
    if width * height > LARGEST_PIXELS:
        raise FileRefusal(
            f"an image of at most {LARGEST_PIXELS:,} pixels",
            f"{width:,} x {height:,}",
            "Do not use such a file, or shrink it first.",
        )


def check_sides(caller: str, *sides: int | None) -> None:
    """Refuse a requested size that no image can have."""
    if any(side is not None and not 0 < side <= LARGEST_PIXELS for side in sides):
        raise ValueError(
            f"`sedma_jax.data.{caller}` needs sides of at least one pixel. "
            f"Got {sides}. Leave them out to keep the size."
        )


def resize(image: Image.Image, width: int, height: int) -> Image.Image:
    """Resize by bilinear interpolation, averaging over the area of each new pixel."""
    check_pixels(width, height)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def crop_centre(
    image: Image.Image, shorter_side: int | None, crop: int | None
) -> UInt8[np.ndarray, "height width 3"]:
    """Scale the shorter side to a given length, then cut a square out of the centre."""
    width, height = image.size
    if shorter_side is not None:
        scale = shorter_side / min(width, height)
        width, height = (max(1, round(side * scale)) for side in (width, height))
        image = resize(image, width, height)
    if crop is not None:
        if crop > min(width, height):
            raise FileRefusal(
                f"sides of {crop} pixels or more, to be cropped to that",
                f"{width} x {height}",
                f"Give `shorter_side={crop}` or more.",
            )
        left, top = (width - crop) // 2, (height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    return np.array(image)
