"""What a broker has lost of what only a publication can bring back, said to a person.

Manifests are few and small, and each was sent after its chunks: a broker that still has a manifest has its chunks.
"""

from edgepick_host.ports import Broker, Store
from edgepick_host.service.pruner import mentioned, needed_releases
from edgepick_wire import topics

SHOWN = 5
"""Versions that are named; the rest is counted."""


def what_is_lost(fleet: str, store: Store, broker: Broker) -> str:
    """Return what the broker lacks and what to do about it, or nothing if it has what devices need.

    Raises:
        UnreachableError: It did not answer.
    """
    releases = store.releases()
    if not releases:
        return ""
    needed = needed_releases(releases, mentioned(store))
    root = topics.root(fleet)
    found = broker.retained([root, *(topics.manifest(fleet, r.manifest) for r in needed)])
    if root not in found:
        return (
            "the broker has lost its memory: what every device should do was sent again, models were not; "
            "send them with `edgepick publish`, once for each published folder that devices still need"
        )
    lost = sorted({f"{r.model} {r.version}" for r in needed if topics.manifest(fleet, r.manifest) not in found})
    if not lost:
        return ""
    more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
    return (
        f"the broker has lost a part of its memory: it lacks {', '.join(lost[:SHOWN])}{more}, which devices still "
        "need; send each again with `edgepick publish`"
    )
