"""Makes what is stored and sent what a rollout wants: a level, compared again where one of the two has changed."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from edgepick_host.core import rollout as core
from edgepick_host.core.checks import request_id
from edgepick_host.core.rollout_state import RolloutState, Wanted
from edgepick_host.core.waves import Lane, Member
from edgepick_host.service.desk import Desk
from edgepick_host.service.fleet_table import FleetTable
from edgepick_wire.messages import Assignment, MeasureRequest
from edgepick_wire.metrics import MeasurePlan

Wish = tuple[str, str, Assignment]
"""A device, its profile, and what it should do about the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applied:
    """What was compared last: the rollout, and how often others had written desired state by then."""

    state: RolloutState
    written_by_others: int


class Enforcement:
    """The levels of every rollout."""

    def __init__(self, desk: Desk, fleet: FleetTable) -> None:
        self._desk = desk
        self._fleet = fleet
        self._applied: dict[str, _Applied] = {}

    def apply(self, state: RolloutState) -> None:
        """Tell devices and profiles what a rollout wants of them, where they are told something else."""
        now = _Applied(state=state, written_by_others=self._desk.written_by_others)
        before = self._applied.get(state.id)
        kept = before.state if before is not None and _same_level(before, now) else None
        if kept is not None and kept.lanes is state.lanes:
            return
        wanted = core.wanted(state)
        self._apply_profiles(state, wanted)
        self._desk.want_devices(self._wishes(state, wanted, kept))
        self._applied[state.id] = now

    def _apply_profiles(self, state: RolloutState, wanted: Wanted) -> None:
        for profile, manifest in wanted.profiles.items():
            if not state.settled and self._desk.profile_active(profile, state.model) != manifest:
                devices = [d.device for d in self._fleet.of_profile(profile)]
                change = _assignment(state, manifest, state.plan.max_bytes)
                self._desk.want_profile(profile, change, devices=devices, exceptions=wanted.devices)

    def _wishes(self, state: RolloutState, wanted: Wanted, before: RolloutState | None) -> Iterator[Wish]:
        """Yield what is wanted of the devices that are others than in ``before``; of all of them without it."""
        for number, lane in enumerate(state.lanes):
            ours = wanted.profiles.get(lane.profile)
            if state.settled and self._desk.profile_active(lane.profile, state.model) != ours:
                continue  # an operator has decided otherwise since
            for member in _others(lane, before.lanes[number] if before else None):
                if member.device in wanted.devices:
                    yield member.device, lane.profile, _change(state, lane, member, wanted.devices[member.device])


def _same_level(before: _Applied, now: _Applied) -> bool:
    """Return whether only devices can be told something else, and only those that changed."""
    a, b = before.state, now.state
    held = [lane.held for lane in a.lanes] == [lane.held for lane in b.lanes]
    return held and (a.stage, a.settled, before.written_by_others) == (b.stage, b.settled, now.written_by_others)


def _others(lane: Lane, before: Lane | None) -> Iterator[Member]:
    kept = before.members if before else ()
    for place, member in enumerate(lane.members):
        if place >= len(kept) or kept[place] is not member:
            yield member


def _change(state: RolloutState, lane: Lane, member: Member, manifest: str | None) -> Assignment:
    ours = manifest == lane.winner
    change = _assignment(state, manifest, state.plan.max_bytes if ours else None)
    if manifest is not None and ours and member.limits:
        return dataclasses.replace(change, measure=(_check_order(state, manifest),))
    return change


def _assignment(state: RolloutState, manifest: str | None, max_bytes: int | None) -> Assignment:
    return Assignment(model=state.model, active=manifest, rollout=state.id, max_bytes=max_bytes)


def _check_order(state: RolloutState, manifest: str) -> MeasureRequest:
    """Return the order to measure a variant once more; devices carry it out when they have confirmed what they run."""
    return MeasureRequest(id=request_id(state.id), manifest=manifest, plan=MeasurePlan())
