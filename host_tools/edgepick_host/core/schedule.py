"""Waves as a person writes them, and which of them each device of a stratum is in. Pure.

    10%, 50%, 100%          shares of each stratum that have been reached after the wave
    10, 100, 100%           devices of each stratum that have been reached after the wave
    site=lab, group=early, 100%         every device that matches, then the rest
    exponential:2           each wave twice as large as the one before, beginning with the canary

Rules:
- Every device is in exactly one wave: the first that reaches it.
- The last step reaches every device; whom a rollout leaves out is not a question of waves.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from edgepick_host.core.selector import Query, parse_query
from edgepick_host.errors import ConfigError
from edgepick_wire.errors import MalformedError

CANARY = 0
"""Number of the wave before the first."""
LEAST_GROWTH = 1.1
"""A slower growth would need hundreds of waves for a large fleet."""
MOST_STEPS = 50

Facts = Mapping[str, str]
_COMMA = re.compile(r",(?![^(]*\))")
_SHARE = re.compile(r"(\d+(?:\.\d+)?) *%")
_GROWTH = re.compile(r"exponential: *(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So much of the stratum has been reached after the wave."""

    share: float

    def __str__(self) -> str:
        return f"{self.share * 100:g}%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """So many devices of the stratum have been reached after the wave."""

    devices: int

    def __str__(self) -> str:
        return str(self.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """Every device of the stratum that matches has been reached after the wave."""

    query: Query

    def __str__(self) -> str:
        return str(self.query)


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """As many waves as it takes, each ``factor`` times as large as the one before."""

    factor: float

    def __str__(self) -> str:
        return f"exponential:{self.factor:g}"


Step = Share | Count | Matching | Growth


def parse_waves(text: str) -> tuple[str, ...]:
    """Return the steps in ``site=lab, 10, 50%, 100%``, each as :func:`schedule` reads it.

    Raises:
        ConfigError: Unreadable, not rising, or without an end that reaches every device.
    """
    try:
        return tuple(str(step) for step in schedule(tuple(_COMMA.split(text))))
    except MalformedError as error:
        raise ConfigError(
            f"waves {text!r}: {error}",
            hint="Shares and numbers are those of every stratum's devices reached after that wave; "
            "to leave devices out of the rollout use --only.",
        ) from error


@lru_cache(maxsize=64)
def schedule(steps: tuple[str, ...]) -> tuple[Step, ...]:
    """Return the steps of a rollout.

    Raises:
        MalformedError: Unreadable, not rising, or without an end that reaches every device.
    """
    found = tuple(_step(text.strip()) for text in steps)
    if len(found) > MOST_STEPS:
        raise MalformedError(f"{len(found)} steps; at most {MOST_STEPS}")
    check(found)
    return found


def check(steps: Sequence[Step]) -> None:
    """Refuse steps that do not rise, or do not end with every device.

    Raises:
        MalformedError: They do not.
    """
    shares = [s.share for s in steps if isinstance(s, Share)]
    counts = [s.devices for s in steps if isinstance(s, Count)]
    last = steps[-1] if steps else None
    ends = isinstance(last, Growth) or (isinstance(last, Share) and last.share == 1.0)
    if not (_rising(shares) and _rising(counts) and ends and all(0 < s <= 1 for s in shares) and 0 not in counts):
        raise MalformedError(
            "expected rising steps, the last one 100%, such as '10%, 50%, 100%', '10, 100, 100%', "
            "'site=lab, 100%' or 'exponential:2'"
        )
    if any(isinstance(s, Growth) for s in steps[:-1]):
        raise MalformedError("exponential waves reach every device, so nothing can follow them")


def wave_numbers(steps: Sequence[Step], canary: int, devices: Sequence[Facts]) -> list[int]:
    """Return the wave of each device, given in the order in which they are reached; the first ``canary`` are 0."""
    numbers = [CANARY] * len(devices)
    left = list(range(min(canary, len(devices)), len(devices)))
    for wave, step in enumerate(_expanded(steps, canary), start=1):
        taken = _taken(step, left, devices)
        for position in taken:
            numbers[position] = wave
        gone = frozenset(taken)
        left = [position for position in left if position not in gone]
        if not left:
            break
    return numbers


def _expanded(steps: Sequence[Step], canary: int) -> Iterator[Step]:
    """Yield one step for each wave; without an end where waves grow."""
    for step in steps:
        if not isinstance(step, Growth):
            yield step
            continue
        size, reached = float(canary), canary
        while True:
            size *= step.factor
            reached += math.ceil(size - 1e-9)
            yield Count(devices=reached)


def _taken(step: Step, left: Sequence[int], devices: Sequence[Facts]) -> list[int]:
    """Return the positions that a wave adds."""
    if isinstance(step, Matching):
        return [position for position in left if step.query.matches(devices[position])]
    if isinstance(step, Share):
        wanted = math.ceil(step.share * len(devices) - 1e-9)
    else:
        wanted = step.devices if isinstance(step, Count) else len(devices)
    return list(left[: max(0, wanted - (len(devices) - len(left)))])


def _step(text: str) -> Step:
    if share := _SHARE.fullmatch(text):
        return Share(share=float(share[1]) / 100)
    if re.fullmatch(r"\d{1,9}", text):
        return Count(devices=int(text))
    if growth := _GROWTH.fullmatch(text):
        if not LEAST_GROWTH <= float(growth[1]) <= 1000:
            raise MalformedError(f"exponential:{growth[1]}: a factor from {LEAST_GROWTH} to 1000 is needed")
        return Growth(factor=float(growth[1]))
    if "=" in text or "(" in text:
        return Matching(query=parse_query(text))
    raise MalformedError(
        f"{text!r} is no step; expected a share (10%), a number of devices (10), a query (site=lab) or "
        "exponential:2, the last one 100%"
    )


def _rising(values: Sequence[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))
