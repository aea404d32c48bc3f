"""What a simulated fleet has done so far, in figures, and where each of its devices stands."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgepick_wire.messages import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts over all devices of one process, or of all.

    Attributes:
        seconds: Since the first device was started.
        devices: That were started.
        online: That are there.
        phases: Where their models stand: phase -> models.
        active: What serves: variant -> models.
        filed: Reports written.
        waiting: Reports that the host has not acknowledged.
        unheard: Of these, sent again to a host that is there and acknowledges nothing at all.
        sent: Messages published.
        sent_bytes: Bytes of their payloads.
        heard: Messages received, once per connection.
        heard_bytes: Bytes of their payloads.
        refused: Signed documents that were not followed.
    """

    seconds: float = 0.0
    devices: int = 0
    online: int = 0
    phases: Mapping[str, int] = field(default_factory=dict)
    active: Mapping[str, int] = field(default_factory=dict)
    filed: int = 0
    waiting: int = 0
    unheard: int = 0
    sent: int = 0
    sent_bytes: int = 0
    heard: int = 0
    heard_bytes: int = 0
    refused: int = 0

    @property
    def text(self) -> str:
        """The same as one line for a person."""
        active = ", ".join(f"{name} {count}" for name, count in sorted(self.active.items())) or "nothing"
        moving = sum(self.phases.get(p, 0) for p in (Phase.FETCHING, Phase.TRIAL, Phase.CONFIRMING))
        return (
            f"{self.seconds:.0f} s: {self.online} of {self.devices} online; run {active}; {moving} installing; "
            f"{self.filed} reports, {self.waiting} not acknowledged"
        )


def added(tallies: Iterable[Tally]) -> Tally:
    """Return the counts of several processes together."""
    every = list(tallies)
    return Tally(
        seconds=max((t.seconds for t in every), default=0.0),
        devices=sum(t.devices for t in every),
        online=sum(t.online for t in every),
        phases=_together(t.phases for t in every),
        active=_together(t.active for t in every),
        filed=sum(t.filed for t in every),
        waiting=sum(t.waiting for t in every),
        unheard=sum(t.unheard for t in every),
        sent=sum(t.sent for t in every),
        sent_bytes=sum(t.sent_bytes for t in every),
        heard=sum(t.heard for t in every),
        heard_bytes=sum(t.heard_bytes for t in every),
        refused=sum(t.refused for t in every),
    )


def _together(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for each in counts:
        found.update(each)
    return dict(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """Where a model stands on a device at the end.

    Attributes:
        active: Variant that serves.
        phase: As the device reports it.
    """

    active: str | None
    phase: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """What became of one device.

    Attributes:
        number: Its place in the fleet; a twin shares its name only.
        ailment: What is wrong with it, if anything.
        models: Model -> where it stands.
        served: Variants that it has served, in order.
        measured: Orders to measure that it carried out.
        waiting: Reports that the host has not acknowledged.
    """

    device: str
    number: int
    profile: str
    ailment: str | None
    online: bool
    models: Mapping[str, Stand]
    served: tuple[str, ...]
    measured: int
    waiting: int
