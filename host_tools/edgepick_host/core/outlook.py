"""What a stratum could prove before anyone waits for it: from an A/A run's noise, the gain it would find. Pure."""

from dataclasses import dataclass

from edgepick_host.core.experiment.shakedown import POWER, Shakedown, detectable, shake_down
from edgepick_host.core.measured import PairedEffects
from edgepick_host.core.proof import Scope, scope_of
from edgepick_host.core.race import Race

QUADS = 24
"""Quads per device and challenger: more than twice what unanimous ones need among a hundred comparisons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What can be found in one stratum.

    Attributes:
        scope: Whom a proof would be about.
        units: Devices, or quads on each device.
        devices: That took part in the A/A run.
        noise: What it found; ``None`` if too few did.
        gain: Smallest relative gain found with 90 % probability; ``None`` if the units are too few for any.
    """

    scope: Scope
    units: int
    devices: int
    noise: Shakedown | None
    gain: float | None

    @property
    def text(self) -> str:
        """The outlook as a sentence."""
        unit = "devices" if self.scope is Scope.FLEET else "quads on each device"
        if self.noise is None:
            return f"no A/A run has told the noise yet, so what {self.units} {unit} can prove is not known"
        noise = f"A/A on {self.devices} device(s): noise {self.noise.sigma:.2%}"
        if self.gain is None:
            return f"{noise}; {self.units} {unit} are too few to prove any gain"
        return f"{noise}; {self.units} {unit} would prove a gain of {self.gain:.2%} with a probability of {POWER:.0%}"


def outlook(race: Race) -> Outlook | None:
    """Return what could be found; ``None`` where nothing runs, or where no challenger has to prove a gain."""
    challengers = [c for c in race.challengers if race.same_version(c)]
    if race.incumbent is None or not challengers:
        return None
    scope = scope_of(race.comparison(challengers[0], race.objective.primary), len(race.stratum.devices), race.even_rate)
    if scope is Scope.FACT:
        return None
    key = race.incumbent.manifest
    runs = {d: found[0] for d in race.stratum.devices if (found := race.runs.get((d, key, key)))}
    noise = shake_down(_effects(race, runs, scope))
    units = len(race.stratum.devices) if scope is Scope.FLEET else QUADS
    least = detectable(noise.sigma, units, race.even_rate, gain=race.policy.min_gain) if noise else None
    return Outlook(scope=scope, units=units, devices=len(runs), noise=noise, gain=least)


def _effects(race: Race, runs: dict[str, PairedEffects], scope: Scope) -> list[float]:
    metric = race.objective.primary
    each = [run.of(metric) for run in runs.values()]
    if scope is Scope.FLEET:
        return [e.unit for e in each if e.unit is not None]
    return [value for e in each for value in e.values]
