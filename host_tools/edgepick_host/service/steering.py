"""Brings every rollout as far as it goes now: from what changed, never from the whole fleet.

Rules:
- A rollout is told what changed since its last look; everything once more when it is first met and at every new stage,
  since what a device said before may then mean something else.
- A rollout's step is stored before anything that follows from it is sent.
- What changed is forgotten only when a look has come to its end: one that broke off is repeated, which is harmless.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from edgepick_host.core import rollout as core
from edgepick_host.core.records import Device, Release
from edgepick_host.core.release import measure_request
from edgepick_host.core.rollout_state import (
    Decided,
    Event,
    EvidenceReady,
    Heard,
    Joined,
    Observed,
    Requested,
    RolloutState,
    Say,
    Stage,
    Tick,
)
from edgepick_host.ports import Clock, Store
from edgepick_host.service import reactions
from edgepick_host.service.desk import Desk
from edgepick_host.service.enforcement import Enforcement
from edgepick_host.service.fleet_table import FleetTable
from edgepick_host.service.measuring import Task, Waiting
from edgepick_host.service.reactions import BudgetsOf, Knowledge
from edgepick_host.service.recorder import Recorder
from edgepick_host.service.report_log import Evidence, ReportLog
from edgepick_host.service.rollout_book import RolloutBook
from edgepick_wire.metrics import MeasurePlan

LINES = 10
"""Most devices of a profile that are named while they are waited for."""


@dataclass(slots=True)
class _Watch:
    """What a look remembers of a rollout for the next one.

    Attributes:
        stage: In which everything was observed.
        again: Devices to observe once more, since their place in the rollout has changed.
        members: Every device in it, and of which lanes that was taken.
        waiting: Who still has to measure.
        said: What was said last of that.
    """

    stage: Stage | None = None
    again: set[str] = field(default_factory=set)
    members: frozenset[str] = frozenset()
    waiting: Waiting | None = None
    said: tuple[int, tuple[str, ...]] = (0, ())


class Steering:
    """Every rollout of a fleet.

    Args:
        store: The host's memory.
        desk: Writes desired state.
        fleet: Every device.
        log: New reports.
        clock: Time.
        budgets_of: Hard limits of a profile.
        say: Gets each line for a person.
    """

    def __init__(
        self,
        *,
        store: Store,
        desk: Desk,
        fleet: FleetTable,
        log: ReportLog,
        clock: Clock,
        budgets_of: BudgetsOf,
        say: Callable[[str], None],
    ) -> None:
        self._store = store
        self._desk = desk
        self._fleet = fleet
        self._log = log
        self._clock = clock
        self._budgets_of = budgets_of
        self._say = say
        self._book = RolloutBook(store)
        self._recorder = Recorder(store, clock)
        self._enforcement = Enforcement(desk, fleet)
        self._watches: dict[str, _Watch] = {}
        self._published = -1
        self._releases: dict[str, tuple[Release, ...]] = {}

    def look(self) -> None:
        """Bring every rollout as far as it goes.

        Raises:
            UnreachableError: The broker went away; what was stored is to be sent again.
        """
        changed, judged = self._fleet.changed(), set()
        turn = self._book.turn()
        for gone in self._watches.keys() - {state.id for state in turn}:
            del self._watches[gone]
        for state in turn:
            watch = self._watches.setdefault(state.id, _Watch())
            after = self._advance(state, watch, changed)
            if not after.settled or after.stage is Stage.DONE:
                self._enforcement.apply(after)
            if after.stage.terminal and not after.settled:
                self._book.save(core.mark_settled(after))
            if after.stage in (Stage.MEASURING, Stage.DECIDING):
                judged.add(after.model)
        self._fleet.settle()
        self._log.settle(judged)

    def _advance(self, state: RolloutState, watch: _Watch, changed: Sequence[Device]) -> RolloutState:
        """Return the rollout after everything that is new, stored if it changed."""
        if state.stage.terminal:
            return state
        said: list[str] = []
        after = _stepped(state, self._new(state, watch, changed), said)
        after = _stepped(after, self._measured(after, watch, changed), said)
        after = _stepped(after, self._ruled(after), said)
        if after.stage is Stage.REVERTING and state.stage is not Stage.REVERTING and after.ending is Stage.REVERTED:
            self._recorder.record_harm(after)
        if after is not state and after != state:
            self._book.save(after)
            watch.again |= _moved(state, after)
        for text in said:
            self._say(f"{state.id} {text}")
        return after

    def _new(self, state: RolloutState, watch: _Watch, changed: Sequence[Device]) -> Iterator[Event]:
        """Yield what a rollout has not been told yet."""
        now = self._clock.now()
        request = self._book.request(state.id)
        if request is not None:
            yield Requested(now=now, id=request.id, kind=request.kind)
        if reports := self._log.after(state.model, state.reports_seen):
            yield Heard(now=now, first=state.reports_seen, reports=reports)
        if state.lanes:
            yield from self._observed(state, watch, changed, now)
        yield Tick(now=now)

    def _observed(self, state: RolloutState, watch: _Watch, changed: Sequence[Device], now: float) -> Iterator[Event]:
        everything = watch.stage is not state.stage
        watch.stage = state.stage
        devices = self._fleet.devices
        if everything:
            changed = tuple(devices.values())
        else:
            changed = (*changed, *(devices[name] for name in watch.again if name in devices))
        watch.again = set()
        if len(watch.members) != sum(len(lane.members) for lane in state.lanes):
            watch.members = frozenset(m.device for m in state.members)
        if views := reactions.views((d for d in changed if d.device in watch.members), state.model):
            yield Observed(now=now, views=views)
        strangers = [d for d in changed if d.device not in watch.members]
        if strangers and (came := reactions.joiners(state, strangers)):
            yield Joined(now=now, joiners=came)

    def _measured(self, state: RolloutState, watch: _Watch, changed: Sequence[Device]) -> Iterator[Event]:
        if state.stage is not Stage.MEASURING:
            return
        evidence = self._log.evidence(state.model)
        if evidence is None:
            return  # earlier reports are still being read
        if watch.waiting is None:
            watch.waiting = Waiting(state, self._fleet.of_profile)
        heard = self._log.fresh_devices(state.model)
        watch.waiting.update(changed, heard, self._released(state.model), evidence)
        for profile, task in watch.waiting.tasks.items():
            self._order(state, profile, task)
        self._say_waiting(state, watch, watch.waiting)
        if not watch.waiting.count and self._fleet.devices:
            yield EvidenceReady(now=self._clock.now(), detail="every device that is online has measured")

    def _say_waiting(self, state: RolloutState, watch: _Watch, waiting: Waiting) -> None:
        """Tell a person whom a rollout waits for: each time if they are few, else when half of them are done."""
        count, before = waiting.count, watch.said[0]
        if count > LINES and before / 2 < count <= before:
            return
        lines = waiting.lines(LINES)
        if (count, lines) != watch.said:
            watch.said = (count, lines)
            for line in lines:
                self._say(f"{state.id} waiting for {line}")
            if count > len(lines):
                self._say(f"{state.id} waiting for {count - len(lines)} more")

    def _order(self, state: RolloutState, profile: str, task: Task) -> None:
        """Order what a profile has to measure and was not told to, or not within the rollout's budget of bytes."""
        ordered = self._desk.orders(profile, state.model)
        change = self._desk.profile_assignment(profile, state.model)
        said = {request.id: request.max_bytes for request in change.measure}
        budget = state.plan.max_bytes
        wanted = [measure_request(m, MeasurePlan(), max_bytes=budget) for m in task.manifests]
        requests = [r for r in wanted if r.manifest not in ordered or budget not in (None, said.get(r.id))]
        if any(order.id not in said for order in task.pairs):
            requests += (dataclasses.replace(order, max_bytes=budget) for order in task.pairs)
        devices = [d.device for d in self._fleet.of_profile(profile)] if requests else []
        if devices:
            exceptions = {d: self._desk.active(d, profile, state.model).active for d in devices}
            self._desk.want_profile(profile, change, devices=devices, exceptions=exceptions, measure=requests)

    def _ruled(self, state: RolloutState) -> Iterator[Event]:
        if state.stage is not Stage.DECIDING:
            return
        evidence = Evidence() if state.plan.variant else self._log.evidence(state.model)
        if evidence is None:
            return
        known = Knowledge(
            releases=self._released(state.model),
            devices=tuple(device for _, device in sorted(self._fleet.devices.items())),
            reports=tuple(evidence.reports),
        )
        lanes = []
        for ruling in reactions.rule(state, known, self._budgets_of):
            kept = self._recorder.record(state, ruling.decision)
            lanes.append(dataclasses.replace(ruling.lane, decision=kept.id))
        yield Decided(now=self._clock.now(), lanes=tuple(lanes))

    def _released(self, model: str) -> tuple[Release, ...]:
        """Return everything published of a model, read again only when something was published."""
        published = self._store.marks().releases
        if published != self._published:
            self._published, self._releases = published, {}
        if model not in self._releases:
            self._releases[model] = tuple(self._store.releases(model))
        return self._releases[model]


def _stepped(state: RolloutState, events: Iterator[Event], said: list[str]) -> RolloutState:
    """Return the state after these events; what is to be said goes to ``said``."""
    for event in events:
        state, actions = core.step(state, event)
        said += [a.text for a in actions if isinstance(a, Say)]
    return state


def _moved(before: RolloutState, after: RolloutState) -> set[str]:
    """Return the devices whose place in the rollout has changed."""
    if len(before.lanes) != len(after.lanes):
        return {m.device for m in after.members}
    return {
        new.device
        for a, b in zip(before.lanes, after.lanes, strict=True)
        if a.members is not b.members
        for old, new in zip(a.members, b.members, strict=False)
        if old is not new
    }
