"""What a simulated fleet is made of, and how it misbehaves. Values only.

Shares are of devices, 0 to 1; a device's lot is drawn from the seed and its name, so a seed names one fleet.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from random import Random

from edgepick_wire.enums import StrEnum
from edgepick_wire.errors import MalformedError
from edgepick_wire.ids import check_name

MAX_DEVICES = 1_000_000


def _shares(value: object, *names: str) -> None:
    wrong = [name for name in names if not 0 <= getattr(value, name) <= 1]
    if wrong:
        raise MalformedError(f"{', '.join(wrong)}: a share is 0 to 1")


def _not_negative(value: object, *names: str) -> None:
    wrong = [name for name in names if not getattr(value, name) >= 0]
    if wrong:
        raise MalformedError(f"{', '.join(wrong)}: must not be negative")


class Spread(StrEnum):
    """How a device's own effect of a variant is distributed; the median is 0 in all of them."""

    NONE = "none"
    NORMAL = "normal"
    T3 = "t3"
    """Student's t with three degrees of freedom: now and then a device is far off."""
    SKEWED = "skewed"
    """A shifted lognormal: half of the devices below 0, a long tail above."""
    CONTAMINATED = "contaminated"
    """Normal, of which one device in twenty is ten times as far off."""


class Ailment(StrEnum):
    """What is wrong with a device all of the time; most have none."""

    OFFLINE = "offline"
    """Known to the broker, but off."""
    LATE = "late"
    """Joins ``late_seconds`` after the others."""
    VANISHING = "vanishing"
    """Is gone for good at some moment within ``vanish_seconds``."""
    NAN = "nan"
    """Reports NaN, which is no JSON."""
    NEGATIVE = "negative"
    """Reports a negative latency and memory."""
    IMPOSSIBLE = "impossible"
    """Reports a latency of a billionth of a nanosecond for what it is asked to compare."""
    FLOODING = "flooding"
    """Sends ``flood_per_second`` incidents, whatever the host acknowledges."""
    TWIN = "twin"
    """Shares its name with another device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What stands between a device's figures and the truth, as standard deviations and shares of a latency.

    Attributes:
        spread: Distribution of the device's own effect of each variant.
        effect: Its standard deviation.
        device: Standard deviation of whole devices.
        block: Standard deviation of one block of a quad.
        autocorrelation: Of neighbouring blocks on a device, 0 to below 1.
        drift: Growth from the first to the last block of a comparison.
        order: By how much the first block of each quad is quicker than the others.
    """

    spread: Spread = Spread.NORMAL
    effect: float = 0.05
    device: float = 0.15
    block: float = 0.01
    autocorrelation: float = 0.0
    drift: float = 0.0
    order: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no device does."""
        _not_negative(self, "effect", "device", "block")
        if not 0 <= self.autocorrelation < 1:
            raise MalformedError(f"autocorrelation {self.autocorrelation}: 0 to below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a variant behaves on the devices of a stratum.

    Attributes:
        latency: Its latency, as a multiple of the stratum's.
        memory: Its memory, likewise.
        crash: Share of devices on which it crashes in service, after it was confirmed.
        wrong: Share of devices on which it fails its golden inputs.
        silent: Share of devices that are never heard of again once they install it.
        refused: Share of devices that refuse to run it.
    """

    latency: float = 1.0
    memory: float = 1.0
    crash: float = 0.0
    wrong: float = 0.0
    silent: float = 0.0
    refused: float = 0.0

    def __post_init__(self) -> None:
        """Refuse factors of nothing and shares that are none."""
        if self.latency <= 0 or self.memory <= 0:
            raise MalformedError("latency and memory are multiples above 0")
        _shares(self, "crash", "wrong", "silent", "refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The devices of one stratum.

    Attributes:
        profile: Their declared kind.
        share: Of the fleet, relative to the other strata.
        latency_ms: Median latency of the reference variant on the median device.
        memory_mib: Its peak memory.
        runtime: What executes the variants.
        accelerator: On what.
        pairs: They know how to compare two variants in quads.
        variants: Variant name -> its behaviour; others behave as the reference does.
    """

    profile: str = "generic-linux"
    share: float = 1.0
    latency_ms: float = 10.0
    memory_mib: float = 50.0
    runtime: str = "litert"
    accelerator: str = "xnnpack"
    pairs: bool = True
    variants: Mapping[str, Behaviour] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a stratum of nothing."""
        check_name("profile", self.profile)
        if self.share <= 0 or self.latency_ms <= 0 or self.memory_mib <= 0:
            raise MalformedError("share, latency_ms and memory_mib are above 0")

    def behaviour(self, variant: str) -> Behaviour:
        """Return how a variant behaves here."""
        return self.variants.get(variant, Behaviour())


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Shares of devices that have an ailment, and what it is like."""

    offline: float = 0.0
    late: float = 0.0
    vanishing: float = 0.0
    nan: float = 0.0
    negative: float = 0.0
    impossible: float = 0.0
    flooding: float = 0.0
    twin: float = 0.0
    late_seconds: float = 30.0
    vanish_seconds: float = 60.0
    flood_per_second: int = 20

    def __post_init__(self) -> None:
        """Refuse more sick devices than there are devices."""
        _shares(self, *(a.value for a in Ailment))
        _not_negative(self, "late_seconds", "vanish_seconds", "flood_per_second")
        if sum(share for _, share in self.shares) > 1:
            raise MalformedError("all shares of failures together are above 1")

    @property
    def shares(self) -> tuple[tuple[Ailment, float], ...]:
        """Each ailment with its share of the devices."""
        return tuple((ailment, getattr(self, ailment.value)) for ailment in Ailment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things take on a device, in seconds; each device takes from half to one and a half of it.

    Attributes:
        measure: One order to measure.
        fetch: Receiving a bundle.
        trial: Trying it on its golden inputs.
        confirm: Serving before it is confirmed.
        crash: From its confirmation to the crash of a variant that does crash.
        resend: Until a report that nobody has acknowledged is sent again; doubled each time.
    """

    measure: float = 1.0
    fetch: float = 1.0
    trial: float = 0.3
    confirm: float = 1.0
    crash: float = 2.0
    resend: float = 30.0

    def __post_init__(self) -> None:
        """Refuse time that runs backwards."""
        _not_negative(self, *(f.name for f in fields(self)))
        if self.resend <= 0:
            raise MalformedError("resend: above 0 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole fleet.

    Attributes:
        seed: Names the fleet: the same seed gives the same devices with the same figures.
        prefix: Devices are called ``<prefix>-00000`` and so on.
        strata: The kinds of device that it consists of.
        noise: What stands between their figures and the truth.
        failures: What is wrong with some of them.
        pace: How long things take.
    """

    seed: int = 1
    prefix: str = "sim"
    strata: tuple[Kind, ...] = (Kind(),)
    noise: Noise = Noise()
    failures: Failures = Failures()
    pace: Pace = Pace()

    def __post_init__(self) -> None:
        """Refuse a fleet without devices."""
        check_name("prefix", self.prefix)
        if not self.strata:
            raise MalformedError("a scenario needs at least one stratum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One device of a scenario.

    Attributes:
        name: Its name, which a twin shares.
        number: Its place in the fleet, which it shares with nobody.
    """

    name: str
    number: int
    kind: Kind
    ailment: Ailment | None
    scenario: Scenario

    def lot(self, *about: str) -> Random:
        """Return a source of chance for one question about this device; the same question has one answer."""
        return Random("\0".join((str(self.scenario.seed), self.name, str(self.number), *about)))

    def falls_on(self, share: float, *about: str) -> bool:
        """Return whether a share of the devices includes this one."""
        return share > 0 and self.lot(*about).random() < share

    def seconds(self, pace: float, *about: str) -> float:
        """Return how long something takes here."""
        return pace * (0.5 + self.lot("pace", *about).random())


def identities(scenario: Scenario, devices: int) -> tuple[Identity, ...]:
    """Return the fleet of a scenario. Strata get their share to the device; ailments by lot.

    Raises:
        MalformedError: More devices than can be named, or none.
    """
    if not 1 <= devices <= MAX_DEVICES:
        raise MalformedError(f"{devices} devices: 1 to {MAX_DEVICES} are possible")
    whole = math.fsum(kind.share for kind in scenario.strata)
    ends = [math.fsum(k.share for k in scenario.strata[: n + 1]) / whole for n in range(len(scenario.strata))]
    return tuple(_identity(scenario, number, devices, ends) for number in range(devices))


def _identity(scenario: Scenario, number: int, devices: int, ends: list[float]) -> Identity:
    place = (number + 0.5) / devices
    kind = scenario.strata[next((n for n, end in enumerate(ends) if place < end), len(ends) - 1)]
    elder, ailment = number, _ailment(scenario, number)
    while elder > 0 and _ailment(scenario, elder) is Ailment.TWIN:
        elder -= 1
    return Identity(name=f"{scenario.prefix}-{elder:05d}", number=number, kind=kind, ailment=ailment, scenario=scenario)


def _ailment(scenario: Scenario, number: int) -> Ailment | None:
    drawn = hashlib.sha256(f"{scenario.seed}\0ailment\0{number}".encode()).digest()
    place = int.from_bytes(drawn[:6], "big") / 2**48
    for ailment, share in scenario.failures.shares:
        if place < share:
            return ailment
        place -= share
    return None
