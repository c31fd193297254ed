"""What benches make of what they see, on cases worked by hand; that they do the work."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

pytest.importorskip("optax")
pytest.importorskip("libp2p")


@pytest.fixture(scope="module")
def phase_shift():
    import phase_shift

    return phase_shift


@pytest.mark.parametrize(
    ("ratios", "decisions", "seconds", "lost"),
    [
        ([1.0, 1.0, 1.0, 1.0], 1, 1.0, 0.0),
        ([5.0, 1.05, 1.0, 1.0], 2, 2.0, 4.0),
        ([1.0, 5.0, 5.0, 1.0, 1.0, 1.0], 4, 4.0, 8.0),  # 3 of 6, then good ones only
        ([5.0, 5.0, 5.0], 3, 3.0, 8.0),  # never
    ],
)
def test_a_phase_is_adapted_to_when_decisions_stay_good(
    phase_shift, ratios, decisions, seconds, lost
):
    found = phase_shift.latency([(ratio, ratio - 1, 1.0) for ratio in ratios])
    assert (found["decisions"], found["seconds"]) == (decisions, seconds)
    assert found["lost"] == pytest.approx(lost)


def test_weights_are_relearnt_when_nine_in_ten_choices_are_right():
    from peer_weights import relearnt

    # From the fifth on, 2 of 25 are wrong; before that 3, since 22 of 25 is less.
    after = [0] * 7 + [1] * 60
    assert relearnt(after) == 5
    assert relearnt([0, 1] * 30) == 60


def test_the_corrected_product_that_is_timed_is_one():
    from speed import cases

    table, weights, inputs = cases(256)
    made = table["corrected matvec"][0]()
    exact = weights.astype(float) @ inputs[0]
    error = lambda y: np.linalg.norm(np.ravel(y) - exact)
    corrected, *_ = made["ours"]()
    # What is left is the product of two errors, each a few hundredths of what it is of.
    assert error(corrected) < 0.1 * error(made["plain analog"]())
