"""Lines of the agent's log, as it writes them and as people and programs read them again.

The agent writes one JSON document a line, to the journal or to files of its own: ``time`` (seconds
since the epoch), ``level`` (``info`` or ``warning``), ``text``, and ``about`` where a line concerns
something.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepick_wire.enums import StrEnum

LINE_TEXT_MAX = 4000
"""Most characters of one line's text: one runaway message does not push out all the others."""
WARNING_PRIORITY = 4
"""syslog(3): 4 is a warning, less is worse."""
AGO = re.compile(r"(\d{1,6})\s*(s|min|m|h|d)", re.ASCII)
LAST_SECOND = 1e11
"""In the year 5138; later ones are no times, and some C libraries cannot show them."""
SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
MOMENTS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")


class LogLevel(StrEnum):
    """How serious a line is."""

    INFO = "info"
    WARNING = "warning"
    """A person should look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of the log."""

    time: float
    level: LogLevel
    text: str
    about: Mapping[str, str] = field(default_factory=dict)


def as_json(line: LogLine) -> str:
    """Return one JSON document on one line, in ASCII."""
    about = {"about": dict(line.about)} if line.about else {}
    document = {"time": round(line.time, 3), "level": line.level.value, "text": line.text[:LINE_TEXT_MAX], **about}
    return json.dumps(document)


def as_text(line: LogLine, *, dated: bool = False) -> str:
    """Return ``12:34:56  text  (key value)`` by the local clock, after the day if ``dated``."""
    clock = time.strftime("%Y-%m-%d %H:%M:%S" if dated else "%H:%M:%S", time.localtime(line.time))
    named = ", ".join(f"{key} {value}" for key, value in line.about.items())
    mark = "!" if line.level is LogLevel.WARNING else " "
    return f"{clock} {mark} {line.text}" + (f"  ({named})" if named else "")


def from_file(text: str) -> LogLine | None:
    """Return what a line of the agent's own files says; ``None`` for one that a power cut tore."""
    try:
        found = json.loads(text)
        at = float(found["time"])
        if not 0 <= at < LAST_SECOND:
            return None
        return LogLine(
            time=at,
            level=LogLevel(found["level"]),
            text=str(found["text"]),
            about={str(key): str(value) for key, value in found.get("about", {}).items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None


def from_journal(text: str) -> LogLine | None:
    """Return what an entry of ``journalctl -o json`` says: the agent's own, or of systemd about it.

    Fields by systemd.journal-fields(7); a message that is not UTF-8 comes as a list of bytes.
    """
    try:
        entry = json.loads(text)
        message = entry["MESSAGE"]
        said = bytes(message).decode("utf-8", "replace") if isinstance(message, list) else str(message)
        at = min(max(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, 0.0), LAST_SECOND)
        serious = int(entry.get("PRIORITY", 6)) <= WARNING_PRIORITY
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    return from_file(said) or LogLine(time=at, level=LogLevel.WARNING if serious else LogLevel.INFO, text=said)


def moment(text: str, now: float) -> float:
    """Return the time that a person means by ``10min``, ``2h``, ``3d`` (ago) or ``2026-11-21 12:30`` (local).

    Raises:
        ValueError: It is none of these.
    """
    if ago := AGO.fullmatch(text.strip()):
        return now - int(ago[1]) * SECONDS[ago[2]]
    found = next((at for at in (_at(text.strip(), form) for form in MOMENTS) if at is not None), None)
    if found is None:
        raise ValueError(f"{text!r} is no time; give one like 10min, 2h, 3d or '2026-11-21 12:30'")
    return found


def _at(text: str, form: str) -> float | None:
    try:
        return time.mktime(time.strptime(text, form))
    except (ValueError, OverflowError):
        return None
