"""What a broker keeps, told by the broker itself and the host's records."""

from edgepick_host.app.composition import broker_of, store_of
from edgepick_host.core.settings import HostSettings
from edgepick_host.service.inventory import Inventory, inventory


def blobs(settings: HostSettings) -> Inventory:
    """Return what the broker keeps of the releases, and who needs it.

    Raises:
        UnreachableError: No broker.
    """
    with broker_of(settings) as broker, store_of(settings) as store:
        return inventory(fleet=settings.fleet, broker=broker, place=settings.broker.place, store=store)
