"""Kubernetes quantities: `500m` cores, `2Gi` bytes."""

import re
from decimal import Decimal

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    **{s: Decimal(10) ** (3 * n) for n, s in enumerate("MGTPE", 2)},
    **{f"{s}i": Decimal(2) ** (10 * n) for n, s in enumerate("KMGTPE", 1)},
}
_FORM = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]{1,2})|([A-Za-z]*))"
)


def parse_quantity(text: str | int | float) -> Decimal:
    """Read a quantity as the API server does: `0.5`, `500m`, `1e9`, `2Gi`.

    **Raises:** `ValueError` for anything else, `2GiB` and `2GB` included, with what to
    write instead.

    **Example:**

        >>> float(sj.deploy.parse_quantity("500m")), int(sj.deploy.parse_quantity("2Gi"))
        (0.5, 2147483648)
        >>> sj.deploy.parse_quantity("2GB")
        Traceback (most recent call last):
        ValueError: A quantity needs a Kubernetes suffix. Got '2GB'. Write 2G.
    """
    written = str(text)
    match = _FORM.fullmatch(written)
    if match and len(written) <= 32:
        number, exponent, suffix = match.groups()
        if exponent:
            return Decimal(number + exponent)
        if suffix in _SUFFIXES:
            return Decimal(number) * _SUFFIXES[suffix]
        for close in (suffix[:-1], f"{suffix[:1].upper()}i", suffix[:1].lower()):
            if close in _SUFFIXES and suffix:
                remedy = f"Write {number}{close}."
                break
        else:
            remedy = "Use one of n u m k M G T P E, or Ki Mi Gi Ti Pi Ei."
    else:
        remedy = "Write a number and a suffix, such as 500m or 2Gi."
    shown = written[:40]
    raise ValueError(f"A quantity needs a Kubernetes suffix. Got {shown!r}. {remedy}")
