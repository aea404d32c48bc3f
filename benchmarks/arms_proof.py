"""Cases of ``make prove-selection`` about a comparison between devices, with an exact calculation beside each.

The simulation draws the failures of both arms and asks the product. What stands beside it uses none of its code: walks
over a boundary are counted path by path, and bounds come from SciPy's beta distribution.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
from proof_rows import Row, at_most
from scipy import stats

from edgepick_host.core.experiment.between import RATIO_ALARM, Between, Subject, conclude, harm_shown, ratio_alarm
from edgepick_host.core.experiment.evidence import least_wins

ALPHA, ALPHA_HARM = 0.05, Fraction(1, 10)
RULES = Between(max_excess=0.05)
SECONDS = 100.0
CHECKED_RUNS = 20
"""Runs of each case that go through the product look by look."""

Array = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """Both arms of a comparison: how often a device fails in a second, and how often it falls silent instead."""

    pairs: int
    candidate: float
    incumbent: float
    silenced: float = 0.0


def ratios(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    """Show that the check of the arms' sizes keeps quiet when they are drawn evenly, and not when a part is lost."""
    alarms = {n: ratio_alarm(n, 2000) for n in range(2001)}
    fair = [alarms[int(n)] for n in rng.binomial(2000, 0.5, runs)]
    short = {n: ratio_alarm(n, n + 1000) for n in range(700, 1001)}
    lost = [short[int(n)] for n in rng.binomial(1000, 0.85, runs)]
    yield Row(
        case="arms drawn evenly: sample-ratio alarm",
        measured=100 * float(np.mean(fair)),
        relation="<=",
        limit=at_most(RATIO_ALARM, runs),
    )
    yield Row(
        case="15 % of one arm lost: sample-ratio alarm", measured=100 * float(np.mean(lost)), relation=">=", limit=50
    )


def between_devices(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    """Show that a comparison between devices keeps both of its error rates, and that silence has to count."""
    alike = Arms(pairs=100, candidate=0.004, incumbent=0.004)
    yield Row(
        case="100 pairs of devices that fail alike: stopped, at any look",
        measured=alarmed(rng, alike, runs, checked=CHECKED_RUNS),
        relation="<=",
        limit=at_most(float(ALPHA_HARM), runs),
        beside=f"{alarmed_exactly(alike):.2f} % (counted by paths)",
    )
    worse = replace(alike, candidate=0.016)
    yield Row(
        case="the candidate's fail four times as often: stopped",
        measured=alarmed(rng, worse, runs, checked=CHECKED_RUNS),
        relation=">=",
        limit=90,
    )
    limit = excess_of(0.05, pairs=200)
    for case, arms, relation, most in (
        ("5 % more devices fail, which is asked to be excluded: goes on", limit, "<=", at_most(0.05, runs)),
        ("1 % fail in either arm of 200 pairs: goes on", replace(limit, candidate=1e-4, incumbent=1e-4), ">=", 80),
    ):
        exact = f"{let_on_exactly(arms):.2f} % (SciPy, every outcome)"
        yield Row(case=case, measured=let_on(rng, arms, runs), relation=relation, limit=most, beside=exact)
    gone = Arms(pairs=200, candidate=1e-4, incumbent=1e-4, silenced=0.05)
    yield Row(
        case="5 % of the candidate's devices are silent for good: goes on",
        measured=let_on(rng, gone, runs),
        relation="<=",
        limit=at_most(0.05, runs),
        beside=f"{let_on_exactly(gone, silence_counts=False):.1f} % (silence left out)",
    )


def excess_of(excess: float, *, pairs: int, base: float = 0.03) -> Arms:
    """Return arms of which the candidate's devices fail more often by exactly ``excess``, beside ``base``."""
    candidate, incumbent = (-math.log1p(-share) / SECONDS for share in (base + excess, base))
    return Arms(pairs=pairs, candidate=candidate, incumbent=incumbent)


def moments(rng: np.random.Generator, arms: Arms, runs: int) -> tuple[Array, Array]:
    """Return when each device fails first, runs x pairs, infinity for never."""
    found = [rng.exponential(1 / rate, (runs, arms.pairs)) for rate in (arms.candidate, arms.incumbent)]
    late = [np.where(each <= SECONDS, each, math.inf) for each in found]
    return late[0], late[1]


def alarmed(rng: np.random.Generator, arms: Arms, runs: int, *, checked: int) -> float:
    """Return the percentage of runs that are stopped for harm, with a look after every failure."""
    candidate, incumbent = moments(rng, arms, runs)
    first = np.minimum(candidate, incumbent)
    order = np.argsort(first, axis=-1)
    told = np.isfinite(np.take_along_axis(first, order, -1))
    wins = (np.take_along_axis(candidate < incumbent, order, -1) & told).cumsum(-1)
    said = (wins >= _boundary(arms.pairs)) & told
    for run in range(checked):
        _check_product(candidate[run], incumbent[run], stopped=bool(said[run].any()))
    return 100 * float(said.any(-1).mean())


def alarmed_exactly(arms: Arms) -> float:
    """Return the same percentage by counting paths, for two arms that fail alike."""
    fails = 1 - math.exp(-arms.incumbent * SECONDS)
    told = stats.binom.pmf(np.arange(arms.pairs + 1), arms.pairs, 1 - (1 - fails) ** 2)
    below, crossed, by_then = np.zeros(arms.pairs + 2), 0.0, [0.0]
    below[0] = 1.0
    for n, least in enumerate(_boundary(arms.pairs), start=1):
        below = 0.5 * below + 0.5 * np.roll(below, 1)
        crossed += float(below[min(least, n + 1) :].sum())
        below[min(least, n + 1) :] = 0.0
        by_then.append(crossed)
    return 100 * float(np.dot(told, by_then))


def let_on(rng: np.random.Generator, arms: Arms, runs: int) -> float:
    """Return the percentage of runs in which the candidate goes on at the end."""
    only_a, only_b = _only(arms)
    drawn = rng.multinomial(arms.pairs, [only_a, only_b, arms.silenced, 1 - only_a - only_b - arms.silenced], runs)
    return 100 * float(np.mean([_goes_on(arms.pairs, *(int(n) for n in each[:3])) for each in drawn]))


def let_on_exactly(arms: Arms, *, silence_counts: bool = True) -> float:
    """Return the same percentage from the multinomial distribution and SciPy's beta quantiles."""
    only_a, only_b = _only(arms)
    worse = only_a + (arms.silenced if silence_counts else 0.0)
    n, counts = arms.pairs, np.arange(arms.pairs + 1)
    upper = np.where(counts < n, stats.beta.ppf(1 - ALPHA / 2, counts + 1, np.maximum(n - counts, 1)), 1.0)
    lower = np.where(counts > 0, stats.beta.ppf(ALPHA / 2, np.maximum(counts, 1), n - counts + 1), 0.0)
    kept = upper[:, None] - lower[None, :] <= RULES.max_excess
    a, b = np.meshgrid(counts, counts, indexing="ij")
    inside = a + b <= n
    rest = np.where(inside, n - a - b, 0)
    chance = stats.multinomial.pmf(np.stack([a, b, rest], -1), n, [worse, only_b, 1 - worse - only_b])
    return 100 * float(chance[kept & inside].sum())


def _only(arms: Arms) -> tuple[float, float]:
    """Return how likely it is that of a pair only the candidate's device fails, and only the other."""
    a, b = (1 - math.exp(-rate * SECONDS) for rate in (arms.candidate, arms.incumbent))
    return a * (1 - b), b * (1 - a)


@lru_cache(maxsize=64)
def _boundary(units: int) -> Array:
    return np.array([wins if (wins := least_wins(n, ALPHA_HARM)) else units + 1 for n in range(1, units + 1)])


@lru_cache(maxsize=100_000)
def _goes_on(pairs: int, only_a: int, only_b: int, silent: int) -> bool:
    """Return what the product concludes."""
    failed, fine, gone = Subject(struck=1.0), Subject(), Subject(answers=False)
    rest = pairs - only_a - only_b - silent
    drawn = [(failed, fine)] * only_a + [(gone, fine)] * silent + [(fine, failed)] * only_b + [(fine, fine)] * rest
    return conclude(drawn, RULES, ALPHA).goes_on


def _check_product(candidate: Array, incumbent: Array, *, stopped: bool) -> None:
    """Hold the simulation against the product, look by look."""
    looks = sorted(float(t) for t in np.minimum(candidate, incumbent) if math.isfinite(t))
    said = any(harm_shown(_at(candidate, incumbent, now), ALPHA_HARM) for now in looks)
    if said is not stopped:
        raise AssertionError(f"the product says {said}, the simulation {stopped}")


def _at(candidate: Array, incumbent: Array, now: float) -> list[tuple[Subject, Subject]]:
    return [(_known(a, now), _known(b, now)) for a, b in zip(candidate, incumbent, strict=True)]


def _known(moment: float, now: float) -> Subject:
    return Subject(struck=float(moment) if moment <= now else None)
