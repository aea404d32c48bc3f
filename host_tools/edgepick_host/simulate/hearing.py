"""Whether a host that is there acknowledges reports. Pure.

MQTT 3.1.1 has no refusal of a message: a broker acknowledges what its access list forbids, and drops it. A fleet that
speaks to such a broker sees nothing but a host that never answers.
"""

from dataclasses import dataclass

from edgepick_host.simulate.scenario import Identity
from edgepick_host.simulate.state import DeviceState
from edgepick_wire.messages import Presence


@dataclass(slots=True)
class Hearing:
    """What one process has heard of the host.

    Attributes:
        host: Session of the host that is there; ``None`` while there is none.
        heard_at: When it came, or when it last acknowledged a report.
    """

    host: int | None = None
    heard_at: float = 0.0

    def saw(self, presence: Presence, now: float) -> None:
        """Take note of the host; the same session again changes nothing, and an older one's late last will neither."""
        if presence.session < (self.host or 0):
            return
        session = presence.session if presence.online else None
        if session != self.host:
            self.host, self.heard_at = session, now

    def acknowledged(self, now: float) -> None:
        """Take note that it acknowledged something."""
        self.heard_at = now

    def is_silent(self, now: float, patience: float) -> bool:
        """Return whether the host is there and has acknowledged nothing for longer than ``patience`` seconds."""
        return self.host is not None and now - self.heard_at > patience


def overdue(device: Identity, state: DeviceState) -> int:
    """Return how many reports of a sound device wait although they were sent again; a host may ignore what lies."""
    resent = state.resend_pause > device.scenario.pace.resend
    return len(state.outbox) if resent and state.online and device.ailment is None else 0
