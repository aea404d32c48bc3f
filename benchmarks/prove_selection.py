"""Prove by simulation what the selection promises: error rates, power and waiting time, each against its limit.

    make prove-selection            4,000 runs a case, seeds fixed; seconds
    python benchmarks/prove_selection.py --runs 400

Each run looks after *every* unit. The boundary is the product's own (`least_wins`), and in each case some runs go
through the product's own `look`, look by look, which must say the same. Beside it stands what most people would do: a
t-test at 5 % at every look. Rates that must not exceed a limit may do so by three standard errors of the simulation.
Exit code 1 if a limit is missed.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from statistics import NormalDist

import numpy as np
from arms_proof import between_devices, ratios
from proof_rows import Row, at_most
from scipy import stats
from ville import BernoulliTest
from ville.evalues import combine

from edgepick_host.core.experiment.evidence import Tally, e_value, least_wins
from edgepick_host.core.experiment.harm import HarmRules
from edgepick_host.core.experiment.intervals import share_lower
from edgepick_host.core.experiment.quads import block_median, log_ratio
from edgepick_host.core.experiment.rates import least_failures
from edgepick_host.core.experiment.trial import Rules, Verdict, look
from edgepick_wire.pairing import Order, quad_order

ALPHA, ALPHA_HARM = Fraction(1, 20), Fraction(1, 10)
UNITS = 200
SIGMA = 0.05
"""Standard deviation of a device's effect. An assumption; an A/A run measures it for a real fleet."""
CHECKED_RUNS = 20
"""Runs of each case that go through the product look by look."""

Array = np.ndarray
Noise = Callable[[np.random.Generator, tuple[int, ...]], Array]


# Noise: every kind has median 0, and standard deviation SIGMA where it has one.


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return what textbooks assume."""
    return rng.normal(0, SIGMA, shape)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return Student's t with three degrees of freedom: now and then a device is far off."""
    return rng.standard_t(3, shape) * SIGMA / math.sqrt(3)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return a shifted lognormal: half of the devices below 0, a long tail above."""
    return SIGMA * (np.exp(rng.normal(0, 0.8, shape)) - 1)


def contaminated(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return normal noise of which one in twenty is ten times as large."""
    return np.where(rng.random(shape) < 0.05, 10, 1) * rng.normal(0, SIGMA, shape)


NOISES: dict[str, Noise] = {"normal": normal, "t3": heavy, "skewed": skewed, "contaminated": contaminated}


# Judges: each returns for every run the number of units at which it first said yes, or 0 if it never did.


def boundary(units: int, alpha: Fraction) -> Array:
    """Return how many wins it takes after each unit; more than there are where none suffice."""
    found = (least_wins(n, alpha) for n in range(1, units + 1))
    return np.array([units + 1 if wins is None else wins for wins in found])


def first_true(said: Array) -> Array:
    """Return at which look, counted from 1, each run first says yes; 0 for never."""
    return np.where(said.any(-1), said.argmax(-1) + 1, 0)


def promoted(effects: Array, alpha: Fraction = ALPHA, gain: float = 0.0) -> Array:
    """Return when each run promotes: the one-sided sign e-process at every look."""
    return first_true((effects < math.log1p(-gain)).cumsum(-1) >= boundary(effects.shape[-1], alpha))


def rejected(effects: Array, alpha: Fraction = ALPHA_HARM) -> Array:
    """Return when each run raises the alarm of harm."""
    return first_true((effects > 0).cumsum(-1) >= boundary(effects.shape[-1], alpha))


def t_tested(effects: Array, alpha: float = 0.05) -> Array:
    """Look with a one-sided t-test after every unit from the fifth on."""
    n = np.arange(1, effects.shape[-1] + 1)
    mean = effects.cumsum(-1) / n
    variance = (np.square(effects).cumsum(-1) / n - np.square(mean)) * n / np.maximum(n - 1, 1)
    statistic = mean / np.sqrt(np.maximum(variance, 1e-18) / n)
    return first_true((statistic < stats.t.ppf(alpha, np.maximum(n - 1, 1))) & (n >= 5))


def rate(stops: Array) -> float:
    """Return the percentage of runs that ever said yes."""
    return 100 * float((stops > 0).mean())


def check_product(effects: Array, stops: Array, rules: Rules) -> None:
    """Hold the vectorised judge against the product, run by run and look by look."""
    for run, stop in zip(effects[:CHECKED_RUNS], stops[:CHECKED_RUNS], strict=True):
        looks = (look([float(e) for e in run[:n]], rules).verdict for n in range(1, len(run) + 1))
        first = next((n for n, verdict in enumerate(looks, start=1) if verdict is Verdict.PROMOTE), 0)
        if first != stop:
            raise AssertionError(f"the product promotes after {first} units, the simulation after {stop}")


# Cases.


def same_variant(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    """A/A: both sides are one variant, so that every promotion and every alarm is false."""
    for name, noise in NOISES.items():
        effects = noise(rng, (runs, UNITS))
        stops = promoted(effects)
        check_product(effects, stops, Rules(alpha=ALPHA, alpha_harm=Fraction(1, 10**6)))
        beside = f"{rate(t_tested(effects)):.1f} %"
        yield Row(
            case=f"A/A {name}: promoted", measured=rate(stops), relation="<=", limit=at_most(0.05, runs), beside=beside
        )
        yield Row(
            case=f"A/A {name}: false alarm of harm",
            measured=rate(rejected(effects)),
            relation="<=",
            limit=at_most(0.10, runs),
        )


def drifting_blocks(rng: np.random.Generator, runs: int, quads: int = 60) -> Array:
    """Return log latencies of blocks on one device: 15 % drift, AR(0.9) noise, and a first block that is 3 % faster."""
    blocks = quads * 4
    noise = np.empty((runs, blocks))
    state = rng.normal(0, 0.03, runs)
    for block in range(blocks):
        state = 0.9 * state + rng.normal(0, 0.03 * math.sqrt(1 - 0.81), runs)
        noise[:, block] = state
    position = np.tile([0.0, 0.03, 0.03, 0.03], quads)
    return (noise + position + np.linspace(0, 0.15, blocks)).reshape(runs, quads, 4)


def quad_effects(blocks: Array, candidate_first: Array) -> Array:
    """Return the log ratio of candidate to incumbent of every quad."""
    inner, outer = blocks[..., 1:3].mean(-1), blocks[..., [0, 3]].mean(-1)
    return np.where(candidate_first, outer - inner, inner - outer)


def coins(runs: int, quads: int) -> Array:
    """Return the product's coin for every run and quad: whether the candidate goes first."""
    thrown = [[quad_order(f"run {r}", "d", q) is Order.BAAB for q in range(quads)] for r in range(runs)]
    return np.array(thrown)


def one_device(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    """A/A on one device with everything that a device does to a comparison, with the coin and without it."""
    blocks = drifting_blocks(rng, runs)
    tossed = quad_effects(blocks, coins(runs, blocks.shape[1]))
    product = [
        log_ratio(Order.BAAB if c else Order.ABBA, np.exp(b)) for b, c in zip(blocks[0], coins(1, 60)[0], strict=True)
    ]
    if not np.allclose(product, tossed[0]):
        raise AssertionError("the product computes another effect from the same blocks")
    fixed = quad_effects(blocks, np.ones(blocks.shape[:2], bool))
    halves = np.concatenate([blocks[:, 30:], blocks[:, :30]], axis=1).reshape(runs, -1, 4).mean(-1)
    halved = halves[:, :30] - halves[:, 30:]
    drift = "A/A one device, drift 15 %, AR(0.9), order effect 3 %"
    yield Row(
        case=f"{drift}: promoted",
        measured=rate(promoted(tossed)),
        relation="<=",
        limit=at_most(0.05, runs),
        beside=f"{rate(t_tested(tossed)):.1f} %",
    )
    yield Row(
        case=f"{drift}: false alarm of harm", measured=rate(rejected(tossed)), relation="<=", limit=at_most(0.10, runs)
    )
    yield Row(
        case="negative control: the same in fixed order BAAB",
        measured=rate(promoted(fixed)),
        relation=">=",
        limit=50,
        beside=f"{rate(t_tested(fixed)):.1f} %",
    )
    yield Row(
        case="negative control: first all of one, then all of the other",
        measured=rate(rejected(halved)),
        relation=">=",
        limit=50,
        beside=f"{rate(t_tested(-halved)):.1f} %",
    )


def many_inferences(rng: np.random.Generator, runs: int, devices: int = 30) -> Iterator[Row]:
    """Show that ten times more inferences per device are no more devices."""
    own = heavy(rng, (runs, devices))
    units, pooled = {}, {}
    for factor in (1, 10):
        samples = own[..., None] + rng.normal(0, 0.05, (runs, devices, 20 * factor))
        units[factor] = np.median(samples, -1)
        flat = samples.reshape(runs, -1)
        pooled[factor] = stats.ttest_1samp(flat, 0, axis=-1, alternative="less").pvalue < 0.05
    for factor in (1, 10):
        yield Row(
            case=f"A/A {20 * factor} inferences a device: promoted",
            measured=rate(promoted(units[factor])),
            relation="<=",
            limit=at_most(0.05, runs),
            beside=f"{100 * pooled[factor].mean():.1f} % (one look, inferences pooled)",
        )
    yield Row(
        case="each inference sent ten times: verdicts unchanged", measured=_repeated(rng), relation=">=", limit=100
    )


def _repeated(rng: np.random.Generator, runs: int = 50) -> float:
    same = 0
    for _ in range(runs):
        samples = rng.lognormal(0, 0.05, (12, 4, 21))
        once, often = (
            look(
                [log_ratio(Order.ABBA, [block_median(list(np.repeat(b, times)), 0) for b in quad]) for quad in samples],
                Rules(),
            )
            for times in (1, 10)
        )
        same += once == often
    return 100 * same / runs


def family(rng: np.random.Generator, runs: int, devices: int = 100) -> Iterator[Row]:
    """Four strata with four candidates each, compared with one incumbent: any false promotion counts."""
    effects = heavy(rng, (runs, 4, 4, devices)) - heavy(rng, (runs, 4, 1, devices))
    corrected = (promoted(effects, ALPHA / 16) > 0).any((1, 2))
    plain = (promoted(effects) > 0).any((1, 2))
    tested = (t_tested(effects) > 0).any((1, 2))
    yield Row(
        case="A/A 4 strata x 4 candidates: any promotion",
        measured=100 * float(corrected.mean()),
        relation="<=",
        limit=5.0,
        beside=f"{100 * tested.mean():.1f} %; ours without correction {100 * plain.mean():.1f} %",
    )


def power(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    """How often and how soon a real gain is found; the limits hold at 3 %, the other rows inform."""
    for gain in (0.05, 0.03, 0.02):
        effects = heavy(rng, (runs, UNITS)) + math.log1p(-gain)
        stops = promoted(effects)
        within = 100 * float(((stops > 0) & (stops <= 60)).mean())
        middle = float(np.median(np.where(stops > 0, stops, UNITS + 1)))
        fixed = fixed_horizon(gain)
        asked = gain == 0.03
        yield Row(
            case=f"-{gain:.0%}, t3: promoted within 60 devices",
            measured=within,
            relation=">=",
            limit=90 if asked else 0,
        )
        yield Row(
            case=f"-{gain:.0%}, t3: median devices / fixed horizon of {fixed}",
            measured=middle / fixed,
            relation="<=",
            limit=1.5 if asked else math.inf,
            unit="x",
            beside=f"median {middle:.0f} devices",
        )
    stops = promoted(normal(rng, (runs, UNITS)) + math.log1p(-0.03))
    yield Row(
        case="-3%, normal: promoted within 60 devices",
        measured=100 * float(((stops > 0) & (stops <= 60)).mean()),
        relation=">=",
        limit=90,
        beside=f"median {np.median(stops[stops > 0]):.0f} devices; {one_look(0.03, 60):.1f} % with signs and one look",
    )


def one_look(gain: float, devices: int) -> float:
    """Return the percentage that the most powerful test of signs finds under normal noise, if it looks only once."""
    needed = next(k for k in range(devices + 1) if stats.binom.sf(k - 1, devices, 0.5) <= ALPHA)
    wins = NormalDist().cdf(-math.log1p(-gain) / SIGMA)
    return 100 * float(stats.binom.sf(needed - 1, devices, wins))


def fixed_horizon(gain: float, sigma: float = SIGMA) -> int:
    """Return the devices of a paired test with one look, 5 % one-sided, 90 % power: ((z + z') sigma / effect)**2."""
    z = NormalDist().inv_cdf(0.95) + NormalDist().inv_cdf(0.90)
    return math.ceil((z * sigma / -math.log1p(-gain)) ** 2)


def margins(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    """At the very limit of what is asked for, nothing may be claimed more often than alpha."""
    effects = heavy(rng, (runs, UNITS)) + math.log1p(-0.02)
    yield Row(
        case="gain of exactly the minimum of 2 %: promoted",
        measured=rate(promoted(effects, gain=0.02)),
        relation="<=",
        limit=at_most(0.05, runs),
        beside=f"{rate(t_tested(effects - math.log1p(-0.02))):.1f} %",
    )
    good = rng.binomial(59, 0.95, runs)
    certified = {n: share_lower(n, 59) >= 0.95 for n in range(60)}
    yield Row(
        case="exactly 95 % of devices keep a cap: 95 % certified",
        measured=100 * float(np.mean([certified[int(n)] for n in good])),
        relation="<=",
        limit=at_most(0.05, runs),
    )


def few_devices(rng: np.random.Generator, runs: int, quads: int = 24) -> Iterator[Row]:
    """Show that three devices, each with its own quads, promote only what each of them proves."""
    noise = heavy(rng, (runs, 3, quads))
    better = noise + math.log1p(-0.10)
    mixed = np.where(np.arange(3)[:, None] == 0, noise, better)
    together = {name: (promoted(e) > 0).all(-1) for name, e in (("same", noise), ("mixed", mixed), ("better", better))}
    percent = {name: 100 * float(said.mean()) for name, said in together.items()}
    limit = at_most(0.05, runs)
    yield Row(case="A/A 3 devices, 24 quads each: promoted", measured=percent["same"], relation="<=", limit=limit)
    yield Row(
        case="2 of 3 devices gain 10 %, the third nothing: promoted",
        measured=percent["mixed"],
        relation="<=",
        limit=limit,
        beside=f"{rate(t_tested(mixed.reshape(runs, -1))):.1f} % (quads of all devices pooled)",
    )
    yield Row(case="3 of 3 devices gain 10 %: promoted", measured=percent["better"], relation=">=", limit=0)


def vanishing(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    """Show that a candidate that kills devices looks good on those that are left, unless silence counts."""
    effects = heavy(rng, (runs, 100)) + math.log1p(-0.03)
    dead = rng.random(effects.shape) < 0.6
    heard = t_tested(np.where(dead, -0.001, effects))
    counted = np.where(dead, np.inf, effects)
    yield Row(
        case="gains 3 % but silences 60 % of its devices: promoted",
        measured=rate(promoted(counted)),
        relation="<=",
        limit=at_most(0.05, runs),
        beside=f"{rate(heard):.1f} % (silence left out)",
    )
    yield Row(case="the same: stopped for harm", measured=rate(rejected(counted)), relation=">=", limit=50)


def monitor(rng: np.random.Generator, runs: int, devices: int = 200) -> Iterator[Row]:
    """Show that a rollout's harm monitor leaves a healthy variant alone, and stops a bad one within few devices."""
    rules = HarmRules()
    most = [least_failures(n, rules.tolerated, rules.alpha / 2) or devices + 1 for n in range(1, devices + 1)]
    found = {share: first_true((rng.random((runs, devices)) < share).cumsum(-1) >= most) for share in (0.005, 0.05)}
    slow = {
        ratio: first_true(
            (normal(rng, (runs, devices)) + math.log(ratio) > math.log1p(rules.slower)).cumsum(-1)
            >= boundary(devices, rules.alpha / 2)
        )
        for ratio in (1 + rules.slower, 1.10)
    }
    limit, within = at_most(float(rules.alpha) / 2, runs), f"within {devices} devices"
    yield Row(
        case="0.5 % of devices fail, as tolerated: stopped", measured=rate(found[0.005]), relation="<=", limit=limit
    )
    yield Row(
        case=f"5 % of devices fail: stopped {within}",
        measured=rate(found[0.05]),
        relation=">=",
        limit=90,
        beside=f"median {np.median(found[0.05][found[0.05] > 0]):.0f} devices",
    )
    yield Row(
        case="5 % slower, as tolerated: stopped", measured=rate(slow[1 + rules.slower]), relation="<=", limit=limit
    )
    yield Row(
        case=f"10 % slower: stopped {within}",
        measured=rate(slow[1.10]),
        relation=">=",
        limit=99,
        beside=f"median {np.median(slow[1.10][slow[1.10] > 0]):.0f} devices",
    )


VILLES_BETS = (((1.0, 1.0), 6), ((2e8, 1e8), 10), ((1e8, 2e8), 10), ((1e9, 1e-9), 3), ((1e-9, 1e9), 3))
"""`ville`'s priors (beta) with their weights in 16ths: even on both sides, then 2/3 and 1 and their mirror images."""


def villes_evidence(wins: int, units: int) -> float:
    """Return the sum of the evidence for and against, put together from `ville`'s e-values alone."""
    seen = [1.0] * wins + [0.0] * (units - wins)
    logs = [float(BernoulliTest(0.5, prior=prior).update(seen).log_e_values_[-1]) for prior, _ in VILLES_BETS]
    weights = [weight for _, weight in VILLES_BETS]
    return float(combine(np.exp(logs), weights=weights)) * sum(weights) / 16


def oracle(rng: np.random.Generator, runs: int) -> Iterator[Row]:
    """Hold the verdicts against `ville`, whose even bet has two sides: the sum of both is what can be compared."""
    agreed, asked = 0, 0
    for n in rng.integers(1, UNITS, min(runs // 10, 300)):
        wins = int(np.clip(rng.normal(0.5 * n, 1.8 * math.sqrt(n)), 0, n))
        both = e_value(Tally(wins=wins, units=int(n))) + e_value(Tally(wins=int(n) - wins, units=int(n)))
        if abs(both / 40 - 1) > 1e-3:
            asked += 1
            agreed += (villes_evidence(wins, int(n)) >= 40) == (both >= 40)
    yield Row(case=f"ville decides alike, of {asked} tallies", measured=100 * agreed / asked, relation=">=", limit=100)


CASES = (
    same_variant,
    one_device,
    many_inferences,
    family,
    power,
    margins,
    few_devices,
    vanishing,
    ratios,
    between_devices,
    monitor,
    oracle,
)


def prove(runs: int, seed: int = 6) -> tuple[Row, ...]:
    """Return every row of the table; each case has a seed of its own, so that one can be run alone."""
    return tuple(row for number, case in enumerate(CASES) for row in case(np.random.default_rng([seed, number]), runs))


def main() -> int:
    """Print the table; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=4000, help="simulated experiments per case [4000]")
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args()
    started = time.perf_counter()
    rows = prove(options.runs, options.seed)
    print(f"{options.runs} runs a case, a look after every unit, seed {options.seed}\n")
    print(f"{'case':<78} {'measured':>9}  {'limit':>11}        t-test, peeking")
    for row in rows:
        limit = "" if row.limit in (0, math.inf) else f"{row.relation} {row.limit:.2f} {row.unit}"
        said = "" if not limit else "kept" if row.kept else "MISSED"
        print(f"{row.case:<78} {row.measured:>7.2f} {row.unit}  {limit:>11} {said:<6} {row.beside}")
    missed = [row.case for row in rows if not row.kept]
    print(f"\n{len(rows)} figures, {len(missed)} limits missed, {time.perf_counter() - started:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
