"""Simulated devices of one process, and the connections that they stand behind."""

from dataclasses import dataclass, field

from edgepick_host.simulate.link import Link
from edgepick_host.simulate.scenario import Identity
from edgepick_host.simulate.state import DeviceState


@dataclass(slots=True, kw_only=True)
class Seat:
    """A device in this process: who it is, how it is, and how it is connected."""

    identity: Identity
    state: DeviceState
    post: "Post"


@dataclass(slots=True, kw_only=True)
class Post:
    """A connection and the devices behind it.

    Attributes:
        own: Topic of one device -> whoever has its name.
        common: Newest message of each topic that several devices read; for those that start later.
    """

    link: Link
    seats: list[Seat] = field(default_factory=list)
    own: dict[str, list[Seat]] = field(default_factory=dict)
    common: dict[str, bytes] = field(default_factory=dict)
    heard: int = 0
    heard_bytes: int = 0
