"""A service beside the coordinator: takes in its share of the reports, and waits for its turn.

Rules:
- The broker gives each report to one of the services (a shared subscription); all of them store into one database,
  which keeps a report once, whoever it reaches how often.
- A report that was given to a service that died is not acknowledged: its device sends it again.
- Where the broker does not deal out, the coordinator takes in everything, and this only waits.
"""

import hashlib
from collections.abc import Callable

from edgepick_host.ports import Broker, Clock, Store
from edgepick_host.service.fleet_table import FleetTable
from edgepick_host.service.inbox import Inbox
from edgepick_host.service.report_log import ReportLog
from edgepick_wire import topics
from edgepick_wire.topics import DeviceTopic


def deals_reports_out(broker: Broker, fleet: str, holder: str) -> bool:
    """Return whether several services can share a fleet's reports.

    It is tried with an acknowledgement for a device that there is not: the host may write that, and nobody hears it.
    """
    nobody = "try-" + hashlib.sha256(holder.encode()).hexdigest()[:16]
    return broker.shares(topics.device(fleet, nobody, DeviceTopic.ACK))


class Collector:
    """Takes in reports for a coordinator elsewhere.

    Args:
        fleet: The fleet.
        store: The memory that it shares with the coordinator.
        broker: Connected.
        clock: Time.
        holder: Unique name of this process.
        say: Gets each line for a person.

    Attributes:
        shares: Whether the broker gives it a share; without one there is nothing to do.
    """

    def __init__(
        self, *, fleet: str, store: Store, broker: Broker, clock: Clock, holder: str, say: Callable[[str], None]
    ) -> None:
        self.shares = deals_reports_out(broker, fleet, holder)
        self._inbox = Inbox(
            fleet=fleet,
            store=store,
            broker=broker,
            clock=clock,
            say=say,
            table=FleetTable(()),
            log=ReportLog(store),
        )
        if self.shares:
            self._inbox.open_reports(shared=True)

    def step(self, timeout_seconds: float) -> None:
        """Take in what has arrived, waiting for the first at most so long.

        Raises:
            UnreachableError: The broker does not answer; what it did not hear acknowledged comes again.
        """
        self._inbox.drain(timeout_seconds)
