"""Bounds that follow from rounding and from sampling, for use in place of guesses."""

import math
from statistics import NormalDist

import numpy as np

ALPHA = 1e-6  # chance that one correct check fails for a randomly chosen seed
Z = NormalDist().inv_cdf(1 - ALPHA / 2)


def gamma(n: int, dtype) -> float:
    """Higham's `n u / (1 - n u)`: relative error of `n` chained roundings."""
    nu = n * np.finfo(dtype).eps / 2
    return nu / (1 - nu)


def mean_atol(std: float, n: int) -> float:
    """Two-sided bound on a mean of `n` independent samples."""
    return Z * std / math.sqrt(n)


def var_atol(std: float, n: int) -> float:
    """Two-sided bound on the sample variance of `n` independent normals."""
    return Z * std**2 * math.sqrt(2 / (n - 1))


def kolmogorov_smirnov(n: int, m: int | None = None) -> float:
    """Bound on the distance of an empirical law of `n` samples from the exact one.

    With `m`, on the distance of two empirical laws (asymptotic law of Smirnov).
    """
    effective = n if m is None else n * m / (n + m)
    return math.sqrt(math.log(2 / ALPHA) / (2 * effective))
