"""Numbers in options: each taken exactly, or refused in one line."""

import argparse
import math
from collections.abc import Callable


def whole(name: str, least: int, most: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers from `least` on; `name` is what the number counts."""
    bounds = f"{name} >= {least}" + ("" if most is None else f" and <= {most}")

    def read(text: str) -> int:
        # Python also reads other digits, underscores and spaces, and no end of digits.
        if text.isascii() and text.isdigit() and len(text) < 19:
            number = int(text)
            if least <= number and (most is None or number <= most):
                return number
        raise _refusal(f"a whole number, {bounds}", text)

    return read


# JAX gives seeds that differ by 2**32 the same stream.
seed = whole("seed", 0, 2**32 - 1)


def not_negative(text: str) -> float:
    """A finite number from 0 on."""
    return _real(text, "a finite number that is not negative", lambda value: value >= 0)


def positive(text: str) -> float:
    """A finite number above 0."""
    return _real(text, "a finite number above 0", lambda value: value > 0)


def array_size(text: str) -> tuple[int, int]:
    """Word lines and bit lines: `256x128`, or `256` for a square."""
    rows, given, cols = text.lower().partition("x")
    line = whole("lines", 1)
    try:
        return line(rows), line(cols if given else rows)
    except argparse.ArgumentTypeError:
        raise _refusal("the form 256x256, each at least 1", text) from None


def _real(text: str, wanted: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and fits(value):
        return value
    raise _refusal(wanted, text)


def _refusal(wanted: str, text: str) -> argparse.ArgumentTypeError:
    text = text if len(text) <= 40 else f"{text[:40]}..."
    return argparse.ArgumentTypeError(f"needs {wanted}. Got {text!r}")
