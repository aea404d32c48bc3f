"""What is said of messages that were refused: the first of a device at once, then how many, so that no log is flooded.

Also said, and never refused: a device that speaks with the number of an earlier session. Its state was wiped, or two
machines use one name.
"""

from collections.abc import Callable
from dataclasses import dataclass

from edgepick_host.ports import Clock
from edgepick_wire.messages import Birth

QUIET_SECONDS = 60.0
"""After a line about a device, until the next."""
MOST_NAMES = 10_000
"""Most devices that are remembered for it: names in topics cost their sender nothing."""

Say = Callable[[str], None]


@dataclass(slots=True)
class _Line:
    """When something was said last, and how often it has happened since."""

    said_at: float
    since: int = 0


class Complaints:
    """Says what is wrong with what devices send, at most once a minute for each of them."""

    def __init__(self, clock: Clock, say: Say) -> None:
        self._clock = clock
        self._say = say
        self._lines: dict[tuple[str, str], _Line] = {}

    def refused(self, topic: str, why: object) -> None:
        """Say that a message was refused."""
        self._complain("refused", topic[-80:], f"refused a message on {topic[-80:]}: {why}")

    def born(self, birth: Birth, before: Birth | None) -> None:
        """Say it if a device was heard with a later session before, or with the same one from another machine."""
        if before is None or birth.session > before.session or _whence(birth) == _whence(before):
            return
        self._complain(
            "born",
            birth.device,
            f"{birth.device} was heard in {_whence(before)}, and now in {_whence(birth)}: "
            "its state was wiped, or two machines use its name; give each its own `device`",
        )

    def _complain(self, kind: str, about: str, text: str) -> None:
        now = self._clock.monotonic()
        line = self._lines.get((kind, about))
        if line is not None and now < line.said_at + QUIET_SECONDS:
            line.since += 1
            return
        if len(self._lines) >= MOST_NAMES:
            self._lines.clear()
        self._lines[kind, about] = _Line(said_at=now)
        self._say(f"{text}; {line.since} more like it in between" if line is not None and line.since else text)


def _whence(birth: Birth) -> str:
    return f"session {birth.session} of {birth.machine}, {birth.system}"
