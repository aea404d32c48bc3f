"""Who is in the fleet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from edgepick_host.app.composition import broker_of, store_to_read
from edgepick_host.core.roster import Roster, by_name, filters
from edgepick_host.core.settings import HostSettings
from edgepick_wire.messages import Report


def roster(settings: HostSettings) -> Roster:
    """Return who is in the fleet, from what the broker retains and what the store remembers.

    Raises:
        UnreachableError: No broker.
    """
    found = _roster(settings)
    with broker_of(settings) as broker:
        for topic, payload in broker.retained(filters(settings.fleet)).items():
            found.hear(topic, payload)
    return found


def history(settings: HostSettings, device: str) -> tuple[Report, ...]:
    """Return every stored report of a device, in the order of their arrival; none without a database."""
    with store_to_read(settings) as store:
        return tuple(store.reports(device=device))


@contextmanager
def live_roster(settings: HostSettings, on_change: Callable[[Roster], None]) -> Iterator[None]:
    """Call ``on_change`` with the roster at every message of a device, until the context ends.

    The calls come from the broker's thread, one at a time.

    Raises:
        UnreachableError: No broker.
    """
    found = _roster(settings)
    lock = Lock()

    def hear(topic: str, payload: bytes) -> None:
        with lock:
            found.hear(topic, payload)
            on_change(found)

    with broker_of(settings) as broker:
        on_change(found)
        broker.subscribe(filters(settings.fleet), hear)
        yield


def _roster(settings: HostSettings) -> Roster:
    with store_to_read(settings) as store:
        return Roster(settings.fleet, by_name(store.devices()))
