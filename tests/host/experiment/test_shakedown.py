"""What an A/A run promises: the noise, the effect that can be found, and an alarm if the pair is not a pair."""

import math
import random
from fractions import Fraction
from statistics import NormalDist

import pytest

from edgepick_host.core.experiment import shakedown
from edgepick_host.core.experiment.evidence import least_wins
from edgepick_host.core.experiment.shakedown import detectable, power, shake_down

RATE = Fraction(1, 20)


def noise(seed, n=200, sd=0.05, shift=0.0):
    rng = random.Random(seed)
    return [rng.gauss(shift, sd) for _ in range(n)]


def test_the_noise_is_found_and_outliers_do_not_make_it():
    """The robust figure is the standard deviation of normal noise, and hardly moves if one unit in fifty is absurd."""
    clean, dirty = noise(1), [*noise(1)[:196], 5.0, -5.0, 7.0, 9.0]

    assert shake_down(clean).sigma == pytest.approx(0.05, rel=0.15)
    assert shake_down(dirty).sigma == pytest.approx(shake_down(clean).sigma, rel=0.1)
    assert shake_down(dirty).sigma_plain > 10 * shake_down(dirty).sigma


def test_a_pair_that_is_not_a_pair_is_noticed():
    """A shift of one standard deviation between two copies of one variant is suspicious; noise alone is not."""
    assert shake_down(noise(2, n=60, shift=0.05)).suspicious
    assert not shake_down(noise(3, n=60)).suspicious


def test_one_unit_says_nothing_about_noise():
    """Without two units there is no shakedown."""
    assert shake_down([0.1]) is None


def test_the_power_is_that_of_a_walk_with_its_paths_counted():
    """The exact power agrees with 4000 simulated walks over the same boundary within four standard errors."""
    rng, wanted = random.Random(4), power(0.75, 60, RATE)

    def walk():
        wins = 0
        for n in range(1, 61):
            wins += rng.random() < 0.75
            boundary = least_wins(n, RATE)
            if boundary is not None and wins >= boundary:
                return True
        return False

    seen = sum(walk() for _ in range(4000)) / 4000
    assert seen == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / 4000) ** 0.5)


def test_a_fair_coin_is_rejected_less_often_than_promised():
    """At the border of the hypothesis the chance of ever reaching the boundary stays below the rate."""
    assert power(0.5, 300, RATE) < 0.05


def test_sixty_devices_find_three_per_cent_in_normal_noise():
    """A gain of 3 % in normal noise of 5 % is found within 60 devices with a probability of at least 90 %, exactly."""
    wins = NormalDist(sigma=0.05).cdf(-math.log1p(-0.03))

    assert power(wins, 60, RATE) >= 0.9
    assert power(wins, 40, RATE) < 0.9


def test_more_units_find_smaller_effects_and_few_find_none():
    """The detectable effect falls with units and rises with noise; six units cannot find anything at 5 %."""
    sizes = [detectable(0.05, n, RATE) for n in (10, 30, 100)]

    assert sizes == sorted(sizes, reverse=True)
    assert detectable(0.02, 30, RATE) < detectable(0.05, 30, RATE)
    assert detectable(0.05, 6, RATE) is None
    assert detectable(0.05, 60, RATE, gain=0.02) > detectable(0.05, 60, RATE) + 0.015


def test_for_very_many_units_no_more_is_promised_than_there_is(monkeypatch):
    """Where paths are too many to follow, the promised power lies below the exact one, the gain found not far above."""
    chances = (0.53, 0.58, 0.62, 0.7)
    exact, gain = [power(chance, 200, RATE) for chance in chances], detectable(0.05, 200, RATE)
    monkeypatch.setattr(shakedown, "EXACT_UNITS", 100)

    promised, larger = [power(chance, 200, RATE) for chance in chances], detectable(0.05, 200, RATE)

    assert all(0 < low < high for low, high in zip(promised, exact, strict=True))
    assert gain < larger < 1.15 * gain
