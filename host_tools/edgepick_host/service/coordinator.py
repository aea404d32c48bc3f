"""The host's service: hears the fleet, decides, and rolls out. A shell around the cores.

Rules:
- One coordinator per fleet at a time, by a lease in the store.
- A rollout's step is stored before anything that follows from it is sent.
- What is wanted is a level, not a message: it is compared with what is stored for every device at
  every look, so a coordinator killed at any moment goes on where it was.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence

from edgepick_host.core import rollout as core
from edgepick_host.core.checks import request_id
from edgepick_host.core.decision import Decision, DecisionRecord, Judgement, parse_record, plain_decision, record
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
from edgepick_host.core.strata import Stratum
from edgepick_host.core.waves import Lane
from edgepick_host.errors import BusyError, UnreachableError
from edgepick_host.ports import Broker, Clock, SignDocument, Store
from edgepick_host.service import reactions
from edgepick_host.service.desk import Desk
from edgepick_host.service.inbox import Inbox
from edgepick_host.service.reactions import BudgetsOf, Knowledge
from edgepick_host.service.requests import COORDINATOR_LEASE, in_turn, load_requests, load_rollouts, save_rollout
from edgepick_wire import codec, topics
from edgepick_wire.errors import WireError
from edgepick_wire.messages import Assignment, MeasureRequest, Presence, Report
from edgepick_wire.metrics import MeasurePlan

LEASE_SECONDS = 10.0
"""A killed coordinator is replaced after this long."""


LOOK_SECONDS = 0.5
"""Pause between two looks at the store when no device says anything."""


def take_lease(store: Store, holder: str, *, now: float) -> None:
    """Take or extend the lease of the fleet's one coordinator.

    Raises:
        BusyError: Another one has it.
    """
    found = store.lease(COORDINATOR_LEASE, holder, now=now, seconds=LEASE_SECONDS)
    if found != holder:
        raise BusyError(
            f"another coordinator is at work: {found}",
            hint="Only one may run for a fleet; `edgepick serve` and a waiting `rollout start` both are one.",
        )


def free_lease(store: Store, holder: str, *, now: float) -> bool:
    """Give the lease back; ``False`` if another has it already."""
    return store.lease(COORDINATOR_LEASE, holder, now=now, seconds=0.0) == holder


def host_presence(fleet: str, session: int, *, online: bool) -> tuple[str, bytes]:
    """Return the topic and payload that tell devices whether session ``session`` of the host is there."""
    return topics.host(fleet), codec.encode(Presence(session=session, online=online))


class Coordinator:
    """One host service.

    Args:
        fleet: The fleet.
        store: The host's memory.
        broker: Connected.
        sign: Signs desired state.
        clock: Time.
        budgets_of: Hard limits of a profile.
        holder: Unique name of this process, for the lease.
        session: Number of this session of the host; above every earlier one.
        say: Gets each line for a person.
    """

    def __init__(
        self,
        *,
        fleet: str,
        store: Store,
        broker: Broker,
        sign: SignDocument,
        clock: Clock,
        budgets_of: BudgetsOf,
        holder: str,
        session: int,
        say: Callable[[str], None],
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._broker = broker
        self._clock = clock
        self._budgets_of = budgets_of
        self._holder = holder
        self._session = session
        self._say = say
        self._lease_until = 0.0
        self._desk = Desk(fleet=fleet, store=store, broker=broker, sign=sign, clock=clock)
        self._inbox = Inbox(fleet=fleet, store=store, broker=broker, clock=clock, say=say)
        self._behind = False
        self._misjudged = False
        self._was_heard = False
        self._forgotten = False
        self._waiting: dict[str, tuple[str, ...]] = {}

    def start(self) -> None:
        """Take the lease, hear the fleet, and send again everything that is wanted.

        Raises:
            BusyError: Another coordinator is at work.
        """
        self._renew()
        self._inbox.open()
        self._announce(online=True)  # devices resend their reports on hearing this: listen first
        self._broker.subscribe([topics.host(self._fleet)], self._heard_itself)
        self._desk.send_all()

    def step(self, timeout_seconds: float = 0.5) -> None:
        """Take in what has arrived and bring every rollout as far as it goes now.

        A broker that does not answer is no error: everything is stored, and sent again once it does.

        Raises:
            BusyError: The lease was lost to another coordinator.
        """
        self._renew()
        try:
            self._inbox.drain(timeout_seconds)
            self._catch_up()
            self._advance_all()
        except UnreachableError as error:
            self._behind = True
            self._say(f"{error}; going on when it answers")

    def _catch_up(self) -> None:
        """Read what is wanted; send all of it again if an earlier message may not have arrived, or was forgotten."""
        if self._misjudged:
            self._misjudged = False
            self._announce(online=True)
        if self._behind:
            self._behind = False  # first: whatever happens from here on is another reason
            self._desk.send_all()
            self._check_memory()
        self._desk.read()

    def _heard_itself(self, _topic: str, payload: bytes) -> None:
        """Take note that the broker was connected to again, or that it takes this service for dead; any thread."""
        with contextlib.suppress(WireError):
            said = codec.decode(Presence, payload)
            if said.session == self._session and not said.online:
                self._misjudged = True
            elif said.session == self._session:
                self._behind, self._was_heard = self._behind or self._was_heard, True

    def _check_memory(self) -> None:
        """Tell a person, once, what to do if the broker has forgotten what only a publication can bring back."""
        root = topics.root(self._fleet)
        forgotten = bool(self._store.releases()) and root not in self._broker.retained([root])
        if forgotten and not self._forgotten:
            self._say(
                "the broker has lost its memory: what every device should do was sent again, models were not; "
                "send them with `edgepick publish`, once for each published folder that devices still need"
            )
        self._forgotten = forgotten

    def stop(self) -> None:
        """Say goodbye and free the lease, if this coordinator still has it."""
        if not free_lease(self._store, self._holder, now=self._clock.now()):
            return
        with contextlib.suppress(UnreachableError):
            self._announce(online=False)

    def _renew(self) -> None:
        now = self._clock.now()
        if now < self._lease_until - LEASE_SECONDS * 2 / 3:
            return
        take_lease(self._store, self._holder, now=now)
        self._lease_until = now + LEASE_SECONDS

    def _announce(self, *, online: bool) -> None:
        topic, payload = host_presence(self._fleet, self._session, online=online)
        self._broker.publish(topic, payload, retain=True)

    # Rollouts.

    def _advance_all(self) -> None:
        requests = load_requests(self._store)
        for state in in_turn(load_rollouts(self._store)):
            if state.settled and not (state.stage is Stage.DONE and core.wanted(state).devices):
                continue
            known = self._knowledge(state.model)
            request = requests.get(state.id)
            asked = [Requested(now=self._clock.now(), id=request.id, kind=request.kind)] if request else []
            self._enforce(self._advance(state, known, asked), known)

    def _knowledge(self, model: str) -> Knowledge:
        return Knowledge(
            releases=tuple(self._store.releases(model)),
            devices=tuple(self._store.devices()),
            reports=tuple(r for r in self._inbox.reports if _model_of(r) == model),
        )

    def _advance(self, state: RolloutState, known: Knowledge, asked: Sequence[Event]) -> RolloutState:
        """Return the rollout after everything that is known, stored if it changed."""
        now = self._clock.now()
        after, said = state, []
        for event in (*asked, *self._heard(state, known), Tick(now=now)):
            after, actions = core.step(after, event)
            said += [a.text for a in actions if isinstance(a, Say)]
        for follow in (self._measured, self._ruled):
            for event in follow(after, known):
                after, actions = core.step(after, event)
                said += [a.text for a in actions if isinstance(a, Say)]
        if after.stage is Stage.REVERTING and state.stage is not Stage.REVERTING and after.ending is Stage.REVERTED:
            self._record_harm(after)
        if after != state:
            save_rollout(self._store, after)
        for text in said:
            self._say(f"{state.id} {text}")
        return after

    def _heard(self, state: RolloutState, known: Knowledge) -> Iterable[Event]:
        now = self._clock.now()
        if len(known.reports) > state.reports_seen:
            first = state.reports_seen
            yield Heard(now=now, first=first, reports=known.reports[first:])
        if state.lanes:
            yield Observed(now=now, views=reactions.views(known.devices, state.model))
            if came := reactions.joiners(state, known.devices):
                yield Joined(now=now, joiners=came)

    def _measured(self, state: RolloutState, known: Knowledge) -> Iterable[Event]:
        if state.stage is not Stage.MEASURING:
            return
        self._order_measurements(state, known)
        waiting = reactions.outstanding(state, known)
        if waiting != self._waiting.get(state.id):
            self._waiting[state.id] = waiting
            for line in waiting:
                self._say(f"{state.id} waiting for {line}")
        if not waiting and known.devices:
            yield EvidenceReady(now=self._clock.now(), detail="every device that is online has measured")

    def _order_measurements(self, state: RolloutState, known: Knowledge) -> None:
        for profile in reactions.profiles_of(state.plan, known.releases):
            wanted = reactions.to_measure(state.plan, state.model, profile, known)
            ordered = self._desk.orders(profile, state.model)
            said = {request.id for request in self._desk.profile_assignment(profile, state.model).measure}
            requests = [measure_request(m, MeasurePlan()) for m in wanted if m not in ordered]
            pairs = reactions.pair_orders(state, profile, known)
            requests += pairs if any(order.id not in said for order in pairs) else ()
            devices = [d.device for d in known.of_profile(profile)]
            if requests and devices:
                change = self._desk.profile_assignment(profile, state.model)
                exceptions = {d: self._desk.active(d, profile, state.model).active for d in devices}
                self._desk.want_profile(profile, change, devices=devices, exceptions=exceptions, measure=requests)

    def _ruled(self, state: RolloutState, known: Knowledge) -> Iterable[Event]:
        if state.stage is not Stage.DECIDING:
            return
        lanes = []
        for ruling in reactions.rule(state, known, self._budgets_of):
            kept = self._record(state, ruling.decision)
            lanes.append(dataclasses.replace(ruling.lane, decision=kept.id))
        yield Decided(now=self._clock.now(), lanes=tuple(lanes))

    def _record(self, state: RolloutState, decision: Decision) -> DecisionRecord:
        """Return the record of a decision, kept now unless the same one of this rollout is already."""
        known = [document for _, document in self._store.decisions()]
        for document in known:
            earlier = parse_record(document)
            if earlier.rollout == state.id and earlier.decision.inputs == decision.inputs:
                return earlier
        previous = known[-1] if known else None
        document = record(decision, rollout=state.id, decided_at=self._clock.now(), previous=previous)
        self._store.append_decision(state.model, document)
        return parse_record(document)

    def _record_harm(self, state: RolloutState) -> None:
        for lane in state.lanes:
            if lane.active:
                self._record(state, _harm_decision(state, lane))

    # Levels.

    def _enforce(self, state: RolloutState, known: Knowledge) -> None:
        """Make what is stored and sent what this rollout wants."""
        wanted = core.wanted(state)
        for profile, manifest in wanted.profiles.items():
            devices = [d.device for d in known.of_profile(profile)]
            if not state.settled and self._desk.profile_active(profile, state.model) != manifest:
                change = _assignment(state, manifest, state.plan.max_bytes)
                self._desk.want_profile(profile, change, devices=devices, exceptions=wanted.devices)
        self._enforce_devices(state)
        if state.stage.terminal and not state.settled:
            save_rollout(self._store, core.mark_settled(state))

    def _enforce_devices(self, state: RolloutState) -> None:
        wanted = core.wanted(state)
        for lane in state.lanes:
            ours = wanted.profiles.get(lane.profile)
            if state.settled and self._desk.profile_active(lane.profile, state.model) != ours:
                continue  # an operator has decided otherwise since
            for member in lane.members:
                if member.device in wanted.devices:
                    manifest = wanted.devices[member.device]
                    change = _assignment(state, manifest, state.plan.max_bytes if manifest == lane.winner else None)
                    if manifest is not None and manifest == lane.winner and member.limits:
                        change = dataclasses.replace(change, measure=(_check_order(state, manifest),))
                    self._desk.want_device(member.device, lane.profile, change)


def _assignment(state: RolloutState, manifest: str | None, max_bytes: int | None) -> Assignment:
    return Assignment(model=state.model, active=manifest, rollout=state.id, max_bytes=max_bytes)


def _check_order(state: RolloutState, manifest: str) -> MeasureRequest:
    """Return the order to measure a variant once more; devices carry it out when they have confirmed what they run."""
    return MeasureRequest(id=request_id(state.id), manifest=manifest, plan=MeasurePlan())


def _harm_decision(state: RolloutState, lane: Lane) -> Decision:
    members = tuple(m.device for m in lane.members)
    return plain_decision(
        model=state.model,
        stratum=Stratum(profile=lane.profile, stand_in=lane.stand_in, devices=members),
        verdict=Judgement.ROLLBACK,
        reasons=(state.reason,),
        policy=state.plan.policy,
        winner_label="what each device ran before",
        harmful=lane.winner,
        harmful_label=lane.winner_label,
    )


def _model_of(report: Report) -> str | None:
    part = report.measurement or report.install or report.incident or report.shadow
    return part.model if part is not None else None
