"""The host's service: hears the fleet, decides, and rolls out. A shell around the cores.

Rules:
- One coordinator per fleet at a time, by a lease in the store.
- A rollout's step is stored before anything that follows from it is sent.
- What is wanted is a level, not a message: it is compared with what is stored for every device at
  every look, so a coordinator killed at any moment goes on where it was.
"""

import contextlib
from collections.abc import Callable

from edgepick_host.errors import BusyError, UnreachableError
from edgepick_host.ports import Broker, Clock, SignDocument, Store
from edgepick_host.service.collector import deals_reports_out
from edgepick_host.service.desk import Desk
from edgepick_host.service.fleet_table import FleetTable
from edgepick_host.service.inbox import Inbox
from edgepick_host.service.memory_check import what_is_lost
from edgepick_host.service.reactions import BudgetsOf
from edgepick_host.service.report_log import ReportLog
from edgepick_host.service.requests import COORDINATOR_LEASE
from edgepick_host.service.steering import Steering
from edgepick_wire import codec, topics
from edgepick_wire.errors import WireError
from edgepick_wire.messages import Presence

LEASE_SECONDS = 10.0
"""A killed coordinator is replaced after this long."""


LOOK_SECONDS = 0.5
"""Longest pause between two looks at the rollouts."""

LOOK_SHARE = 8.0
"""A look is followed by a pause this many times as long, if devices have something to say."""


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
        self._holder = holder
        self._session = session
        self._say = say
        self._lease_until = 0.0
        self._desk = Desk(fleet=fleet, store=store, broker=broker, sign=sign, clock=clock)
        self._table = FleetTable(store.devices())
        self._log = ReportLog(store)
        self._inbox = Inbox(
            fleet=fleet, store=store, broker=broker, clock=clock, say=say, table=self._table, log=self._log
        )
        self._steering = Steering(
            store=store,
            desk=self._desk,
            fleet=self._table,
            log=self._log,
            clock=clock,
            budgets_of=budgets_of,
            say=say,
        )
        self._next_look = 0.0
        self._behind = False
        self._misjudged = False
        self._was_heard = False
        self._lost = ""

    def start(self) -> None:
        """Take the lease, hear the fleet, and send again everything that is wanted.

        Raises:
            BusyError: Another coordinator is at work.
        """
        self._renew()
        self._inbox.open(shared=deals_reports_out(self._broker, self._fleet, self._holder))
        self._announce(online=True)  # devices resend their reports on hearing this: listen first
        self._broker.subscribe([topics.host(self._fleet)], self._heard_itself)
        self._desk.send_all()
        self._check_memory()

    def step(self, timeout_seconds: float = 0.5) -> None:
        """Take in what has arrived and, unless it did so just now, bring every rollout as far as it goes.

        A broker that does not answer is no error: everything is stored, and sent again once it does.

        Raises:
            BusyError: The lease was lost to another coordinator.
        """
        self._renew()
        try:
            left = self._next_look - self._clock.monotonic()
            self._inbox.drain(max(min(timeout_seconds, left), 0.0) if left > 0 else timeout_seconds)
            self._look()
        except UnreachableError as error:
            self._behind = True
            self._say(f"{error}; going on when it answers")

    def _look(self) -> None:
        """Look at the rollouts, at most as often as lets the service spend most of its time on messages."""
        began = self._clock.monotonic()
        if began < self._next_look:
            return
        self._catch_up()
        self._steering.look()
        ended = self._clock.monotonic()
        self._next_look = ended + min((ended - began) * LOOK_SHARE, LOOK_SECONDS)

    def _catch_up(self) -> None:
        """Read what is wanted; send all of it again if an earlier message may not have arrived, or was forgotten."""
        if self._misjudged:
            self._misjudged = False
            self._announce(online=True)
        if self._behind:
            self._behind = False  # first: whatever happens from here on is another reason
            self._desk.send_all()
            self._check_memory()
        if (count := self._inbox.left_out()) > 0:
            self._say(
                f"{count} report(s) came faster than they could be stored; every device is asked again for its own"
            )
            self._announce(online=True)
        self._log.refresh()
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
        """Tell a person, once, what to do if the broker has lost what only a publication can bring back."""
        lost = what_is_lost(self._fleet, self._store, self._broker)
        if lost and lost != self._lost:
            self._say(lost)
        self._lost = lost

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
