"""Programming noise is found from pairs of target and achieved conductance, or refused."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from tolerances import Z

import sedma_jax as sj

G_MAX, LEVELS, CELLS = 1e-5, 16, 400
TARGET = np.tile(np.linspace(0.05, 1, LEVELS) * G_MAX, CELLS)
X = TARGET / G_MAX
SHIFT, SIGMA = np.array([-1e-8, 6e-8]), np.array([5e-8, 2e-7, -1e-7])  # siemens


def drawn(x=X, seed=0):
    """Achieved conductances of a known law, in NumPy."""
    normal = np.random.default_rng(seed).normal(size=x.shape)
    mean, sigma = np.polyval(SHIFT[::-1], x), np.polyval(SIGMA[::-1], x)
    return x * G_MAX + mean + sigma * normal


def test_a_known_law_is_found_within_its_standard_errors():
    found = sj.devices.fit_programming(TARGET, drawn())
    shift = np.array(found.model.shift.coefficients)
    sigma = np.array(found.model.deviation.coefficients)
    np.testing.assert_array_less(np.abs(shift - SHIFT), Z * found.shift_errors)
    np.testing.assert_array_less(np.abs(sigma - SIGMA), Z * found.deviation_errors)
    # Weighted least squares with the true weights, in closed form, has these errors.
    design = np.vander(X, 3, increasing=True)
    weight = 1 / np.polyval(SIGMA[::-1], X)
    inverse = lambda d: np.sqrt(np.diag(np.linalg.inv((d * weight[:, None] ** 2).T @ d)))
    np.testing.assert_allclose(found.shift_errors, inverse(design[:, :2]), rtol=0.1)
    known = np.sqrt(np.pi / 2 - 1) * inverse(design)
    np.testing.assert_allclose(found.deviation_errors, known, rtol=0.1)


def test_quality_tells_a_right_law_from_a_wrong_one():
    right = sj.devices.fit_programming(TARGET, drawn())
    n = TARGET.size
    # Each of the 16 terms is a squared normal number, of variance 2.
    assert abs(right.chi2 - 1) < Z * np.sqrt(2 / LEVELS)
    assert abs(right.excess_kurtosis) < Z * np.sqrt(24 / n)
    assert abs(right.standardised.var() - 1) < Z * np.sqrt(2 / n)
    np.testing.assert_allclose(right.groups[:, 0], TARGET[:LEVELS])
    wrong = sj.devices.fit_programming(TARGET, drawn(), degree=0)
    assert wrong.chi2 > 10


def test_constant_noise_is_that_of_ordinary_least_squares():
    """With one deviation for all, the mean has the closed form of any textbook."""
    achieved = TARGET + 1e-7 * np.random.default_rng(1).normal(size=TARGET.size)
    found = sj.devices.fit_programming(TARGET, achieved, degree=0)
    slope, height = np.polyfit(X, achieved - TARGET, 1)
    np.testing.assert_allclose(found.model.shift.coefficients, [height, slope], rtol=1e-9)
    rest = achieved - TARGET - height - slope * X
    np.testing.assert_allclose(found.residuals, rest, atol=1e-18)
    known = 1 - np.sum(rest**2) / np.sum((achieved - TARGET - rest.mean()) ** 2)
    assert abs(found.r2 - known) < 1e-3
    (sigma,) = found.model.deviation.coefficients
    assert abs(sigma / 1e-7 - 1) < Z * np.sqrt((np.pi / 2 - 1) / TARGET.size)


def test_what_the_model_makes_is_found_again():
    model = sj.devices.fit_programming(TARGET, drawn()).model
    g = sj.kernels.program_noise(model, jnp.asarray(TARGET), key=jr.key(0))
    again = sj.devices.fit_programming(TARGET, g)
    old = np.array(model.deviation.coefficients)
    new = np.array(again.model.deviation.coefficients)
    np.testing.assert_array_less(np.abs(new - old), Z * again.deviation_errors)


def test_a_file_and_units_give_the_same(save):
    pairs = np.stack([TARGET, drawn()], axis=1) * 1e6
    rows = [f"{a!r},{b!r}" for a, b in pairs.tolist()]
    path = save("pairs.csv", "\n".join(["target_uS,achieved_uS", *rows]))
    one = sj.devices.fit_programming(path, unit="uS").model
    two = sj.devices.fit_programming(TARGET.reshape(-1, 40), drawn().reshape(-1, 40)).model
    np.testing.assert_allclose(one.shift.coefficients, two.shift.coefficients, rtol=1e-6)
    np.testing.assert_allclose(
        one.deviation.coefficients, two.deviation.coefficients, rtol=1e-6
    )


GOOD = drawn()


@pytest.mark.parametrize(
    "target, achieved, options, words",
    [
        (TARGET[:20], GOOD[:20], {}, "at least 30 pairs"),
        (np.full(100, 1e-6), GOOD[:100], {"degree": 0}, "different targets"),
        (np.tile(TARGET[:2], 99), GOOD[:198], {}, "at least 3 different targets"),
        (TARGET, np.where(X > 0.9, np.nan, GOOD), {}, "`achieved` to be finite"),
        (TARGET, GOOD[:-1], {}, "as many `achieved`"),
        (TARGET, GOOD * 1e6, {}, "in one unit"),
        (TARGET * 1e6, GOOD * 1e6, {}, "0 to 0.1 siemens"),
        (TARGET, None, {}, "`achieved` beside"),
        (TARGET, TARGET + 1e-9, {}, "scatter"),
        (TARGET, np.where(X > 0.4, TARGET + 1e-12, GOOD), {}, "above 0 at every target"),
        (TARGET, GOOD, {"unit": "kS"}, "`unit`"),
        (TARGET, GOOD, {"degree": -1}, "`degree`"),
        (TARGET, GOOD, {"shift_degree": 7}, "`shift_degree`"),
        ("missing.csv", None, {}, "missing.csv"),
    ],
)
def test_what_cannot_be_identified_is_refused_in_one_line(target, achieved, options, words):
    with pytest.raises(ValueError, match=words) as refused:
        sj.devices.fit_programming(target, achieved, **options)
    assert "\n" not in str(refused.value)
