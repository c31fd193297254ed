"""Eq. 14 fires when it should, and does not flap under noise."""

import itertools
import random

import pytest

from sedma_jax.deploy._placing.trigger import Limits, Trigger


def runs(ratios, loads=(), *, act=lambda k: None, **limits):
    """The steps, 10 s apart, at which it fired."""
    trigger, fired = Trigger(Limits(**limits)), []
    for k, ratio in enumerate(ratios):
        load = loads[k] if loads else None
        if trigger.observe(ratio, load, 10.0 * k):
            fired.append(k)
            trigger.fired(10.0 * k)
            act(k)
    return fired


@pytest.mark.parametrize(("ratio", "fires"), [(0.79, True), (0.81, False)])
def test_theta(ratio, fires):
    assert bool(runs([1.0] * 10 + [ratio] * 10)) == fires


@pytest.mark.parametrize(("load", "fires"), [(0.86, True), (0.84, False)])
def test_rho(load, fires):
    assert bool(runs([None] * 20, [0.5] * 10 + [load] * 10)) == fires


def test_it_fires_once_most_of_the_window_is_bad():
    assert runs([1.0] * 10 + [0.5] * 3) == [12]  # three of five
    assert runs([1.0, 0.1, 1.0, 1.0, 0.1, 1.0, 1.0, 0.1, 1.0, 1.0]) == []


def test_the_cool_down_doubles_while_nothing_is_cured():
    fired = runs([0.5] * 400, cool_down=100)
    gaps = [b - a for a, b in itertools.pairwise(fired)]
    assert gaps[:5] == [10, 20, 40, 80, 160]


def test_a_cure_ends_the_doubling():
    ratios = [0.5] * 5 + [1.0] * 20 + [0.5] * 5 + [1.0] * 20 + [0.5] * 5
    assert runs(ratios, cool_down=100) == [4, 27, 52]


def test_noise_around_a_good_level_does_not_fire():
    draw = random.Random(0)
    # The median of five is below 0.8 if three draws are 2.5 standard deviations low: 2e-6
    # per step.
    assert runs([draw.gauss(1.0, 0.08) for _ in range(5000)]) == []


def test_noise_on_the_limit_stays_within_the_cool_down():
    draw = random.Random(0)
    fired = runs([draw.gauss(0.8, 0.1) for _ in range(2000)], cool_down=300)
    assert fired and min(b - a for a, b in itertools.pairwise(fired)) >= 30


def test_limits_are_checked():
    with pytest.raises(ValueError, match="defaults"):
        Limits(samples=0)
