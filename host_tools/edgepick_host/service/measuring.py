"""Who still has to measure what for a rollout, kept up with what changes: nobody else is looked at again."""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgepick_host.core.outlook import QUADS
from edgepick_host.core.records import Device, Release
from edgepick_host.core.rollout_state import RolloutState
from edgepick_host.core.waves import Plan
from edgepick_host.service.crowd import Crowd, pairs
from edgepick_host.service.report_log import Evidence
from edgepick_wire.messages import MeasureRequest
from edgepick_wire.pairing import PairOrder

AA_QUADS = 12
"""Quads of the one A/A run of what runs: enough for a noise figure, half the time of a comparison."""
MAX_NAME = 64


def profiles_of(plan: Plan, releases: Iterable[Release]) -> tuple[str, ...]:
    """Return the profiles that a rollout covers: those asked for, of those that the version is for."""
    offered = dict.fromkeys(p for r in releases if r.version == plan.version for p in r.profiles)
    return tuple(p for p in sorted(offered) if not plan.profiles or p in plan.profiles)


def candidates(plan: Plan, profile: str, releases: Iterable[Release]) -> tuple[Release, ...]:
    """Return the variants that a profile may choose from."""
    return tuple(r for r in releases if r.version == plan.version and profile in r.profiles)


def to_measure(plan: Plan, crowd: Crowd, releases: Sequence[Release]) -> tuple[str, ...]:
    """Return the manifests that these devices must measure: the candidates and what runs there."""
    known = {r.manifest for r in releases}
    wanted = (r.manifest for r in candidates(plan, crowd.profile, releases))
    return tuple(dict.fromkeys((*wanted, *sorted(m for m in crowd.actives if m in known))))


def pair_orders(state: RolloutState, crowd: Crowd, releases: Sequence[Release]) -> tuple[MeasureRequest, ...]:
    """Return the orders to measure what has to prove a gain beside what runs on these devices.

    Each rollout throws coins of its own, so that its quads add to what earlier ones found. What runs is compared with
    itself, too, once: that tells the noise.
    """
    incumbent = next((r for r in releases if r.manifest == crowd.incumbent), None)
    if incumbent is None or state.plan.variant or not crowd.pairing:
        return ()
    challengers = [
        r
        for r in candidates(state.plan, crowd.profile, releases)
        if r.version == incumbent.version and r.manifest != incumbent.manifest
    ]
    orders = [_pair_order(r.manifest, incumbent.manifest, key=state.id, quads=QUADS) for r in challengers]
    return (_pair_order(incumbent.manifest, incumbent.manifest, key="aa", quads=AA_QUADS), *orders) if orders else ()


def _pair_order(manifest: str, against: str, *, key: str, quads: int) -> MeasureRequest:
    pair = PairOrder(against=against, key=key, quads=quads)
    return MeasureRequest(id=f"{manifest[:12]}-{against[:8]}-{key}"[:MAX_NAME], manifest=manifest, pair=pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the devices of a profile have to measure."""

    manifests: tuple[str, ...]
    pairs: tuple[MeasureRequest, ...]


class _Profile:
    """The devices of one profile, their task, and who of them has not done it."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.task = Task(manifests=(), pairs=())
        self._missing: dict[str, tuple[int, int]] = {}
        self._nobody = False

    def update(self, changed: Sequence[Device], heard: Collection[str], task: Task, evidence: Evidence) -> None:
        """Look again at those who changed or reported; at everybody if there is something else to measure."""
        names: Iterable[str] = {*heard, *(d.device for d in changed)}
        if task != self.task:
            self.task, self._missing, names = task, {}, self.crowd.devices
        for name in names:
            self._check(name, evidence)
        alone = bool(self.crowd.devices) and not self.crowd.online
        self._nobody = alone and not any(evidence.measured(d, m) for d in self.crowd.devices for m in task.manifests)

    def _check(self, name: str, evidence: Evidence) -> None:
        self._missing.pop(name, None)
        device = self.crowd.devices.get(name)
        if device is None or not device.online:
            return
        alone = sum(not evidence.measured(name, m) for m in self.task.manifests)
        beside = sum(not evidence.answered(name, order.id) for order in self.task.pairs) if pairs(device) else 0
        if alone or beside:
            self._missing[name] = (alone, beside)

    @property
    def count(self) -> int:
        """How many devices are waited for, or one for the profile itself."""
        return len(self._missing) or int(self._nobody)

    def lines(self, most: int) -> Iterator[str]:
        """Yield who is waited for, in words."""
        if self._nobody:
            yield f"{self.crowd.profile}: none of {len(self.crowd.devices)} device(s) is online"
        for name in heapq.nsmallest(most, self._missing):
            alone, beside = self._missing[name]
            if alone:
                yield f"{name}: {alone} of {len(self.task.manifests)} variants not measured"
            else:
                yield f"{name}: {beside} of {len(self.task.pairs)} variants not compared with what runs"


class Waiting:
    """Who still has to measure what for one rollout.

    Waited for are the devices that are online. While none of a profile's devices is, the profile itself is waited
    for, if it has any.
    """

    def __init__(self, state: RolloutState, of_profile: Callable[[str], Iterable[Device]]) -> None:
        self._state = state
        self._of_profile = of_profile
        self._profiles: dict[str, _Profile] = {}

    def update(
        self, changed: Sequence[Device], heard: Collection[str], releases: Sequence[Release], evidence: Evidence
    ) -> None:
        """Take in which devices changed and which have reported since the last time; all of them at the first."""
        wanted = profiles_of(self._state.plan, releases)
        self._profiles = {name: self._profiles.get(name) or self._new(name) for name in wanted}
        for each in self._profiles.values():
            for device in changed:
                each.crowd.see(device)
            task = Task(
                manifests=to_measure(self._state.plan, each.crowd, releases),
                pairs=pair_orders(self._state, each.crowd, releases),
            )
            each.update(changed, heard, task, evidence)

    def _new(self, profile: str) -> _Profile:
        return _Profile(Crowd(self._state.plan, self._state.model, profile, self._of_profile(profile)))

    @property
    def tasks(self) -> dict[str, Task]:
        """What each profile has to measure."""
        return {name: each.task for name, each in self._profiles.items()}

    @property
    def count(self) -> int:
        """How many are waited for; 0 when nothing is."""
        return sum(each.count for each in self._profiles.values())

    def lines(self, most: int) -> tuple[str, ...]:
        """Return who is waited for, in words; at most so many of each profile."""
        return tuple(line for each in self._profiles.values() for line in each.lines(most))
