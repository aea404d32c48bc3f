"""Who gets the candidate when a device cannot hold both: between devices, sticky, and checked. Pure.

- A device's bucket is a hash of seed and device, so that more coverage adds devices and moves none.
- In a small stratum a hash leaves the arms uneven: there, blocks of two devices get one of each, in a fixed order.
- A device that falls silent after it was assigned has failed (intention to treat): a candidate that kills its
  reporter must not look healthy.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgepick_host.core.experiment.evidence import Tally
from edgepick_host.core.experiment.intervals import binomial_tail
from edgepick_host.core.experiment.shakedown import POWER, power
from edgepick_wire.enums import StrEnum

SMALL_STRATUM = 50
"""Devices below which permuted blocks are used: a hash of 49 leaves one arm with 17 or fewer in one case of 22."""
RATIO_ALARM = 0.001
"""Sample-ratio check: below this p-value the arms are not what was planned, and nothing is concluded."""


class Arm(StrEnum):
    """What a device of a between-device experiment was given."""

    INCUMBENT = "incumbent"
    CANDIDATE = "candidate"


def bucket(seed: str, device: str) -> float:
    """Return the place of a device in 0 to below 1, the same at every reading."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{device}".encode()).digest()[:6], "big") / 2**48


def covered(seed: str, devices: Iterable[str], coverage: float) -> tuple[str, ...]:
    """Return the devices that take part, by bucket; a higher coverage only adds devices."""
    return tuple(sorted((d for d in devices if bucket(seed, d) < coverage), key=lambda d: (bucket(seed, d), d)))


def assign(seed: str, devices: Sequence[str], known: Mapping[str, Arm]) -> dict[str, Arm]:
    """Return every device's arm: what it was given before, else by lot; nothing that was given is ever changed.

    Args:
        seed: Of the experiment.
        devices: All of one stratum that take part.
        known: What was stored before, which stands.
    """
    new = sorted((d for d in devices if d not in known), key=lambda d: (bucket(seed, d), d))
    if len(devices) >= SMALL_STRATUM:
        drawn = {d: _arm(_second(seed, d) < 0.5) for d in new}
    else:
        drawn = _in_blocks(seed, new, start=len(known))
    return {**{d: known[d] for d in devices if d in known}, **drawn}


def _in_blocks(seed: str, new: Sequence[str], start: int) -> dict[str, Arm]:
    arms = {}
    for place, device in enumerate(new, start=start):
        first = _second(seed, str(place // 2)) < 0.5
        arms[device] = _arm(first is (place % 2 == 0))
    return arms


def _second(seed: str, name: str) -> float:
    return bucket(f"{seed}\0arm", name)


def _arm(candidate: bool) -> Arm:  # noqa: FBT001 - the one question that it answers
    return Arm.CANDIDATE if candidate else Arm.INCUMBENT


def ratio_p(candidates: int, units: int) -> float:
    """Return the two-sided exact p-value of "the arms were drawn evenly"."""
    return min(1.0, 2 * binomial_tail(units, max(candidates, units - candidates), 0.5))


def ratio_alarm(candidates: int, units: int) -> bool:
    """Return whether the arms differ too much to be the ones that were planned."""
    return ratio_p(candidates, units) < RATIO_ALARM


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A device of a between-device experiment: its arm, and whether it failed (silence counts as failure)."""

    device: str
    arm: Arm
    failed: bool


def harm_pairs(seed: str, standings: Iterable[Standing]) -> Tally:
    """Return the pairs (one device of each arm) in which exactly one failed, and of those where it was the candidate.

    Pairs are made by bucket, before anything is known of outcomes. If the candidate fails no more often than the
    incumbent, the one that failed is as likely to be either (McNemar 1947), which is what the e-process tests.
    """
    arms: dict[Arm, list[Standing]] = {Arm.CANDIDATE: [], Arm.INCUMBENT: []}
    for standing in sorted(standings, key=lambda s: (bucket(seed, s.device), s.device)):
        arms[standing.arm].append(standing)
    pairs = zip(arms[Arm.CANDIDATE], arms[Arm.INCUMBENT], strict=False)
    unlike = [candidate.failed for candidate, incumbent in pairs if candidate.failed is not incumbent.failed]
    return Tally(wins=sum(unlike), units=len(unlike))


def rate_detectable(base: float, pairs: int, alpha: Fraction, wanted: float = POWER) -> float | None:
    """Return the smallest failure rate of the candidate that ``pairs`` pairs would show; ``None`` if none would."""
    for step in range(1, 100):
        rate = step / 100
        unlike = rate * (1 - base) + base * (1 - rate)
        expected = math.floor(pairs * unlike)
        if rate > base and expected and power(rate * (1 - base) / unlike, expected, alpha) >= wanted:
            return rate
    return None
