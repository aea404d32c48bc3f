"""The agent's log: one line each, for people on a terminal, as JSON under systemd."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol, TextIO

from edgepick_agent.cli.log_lines import LogLevel, LogLine, as_json, as_text

NOTHING: Mapping[str, str] = {}


class Log(Protocol):
    """Writes one line."""

    def __call__(self, text: str, *, serious: bool = False, about: Mapping[str, str] = NOTHING) -> None:
        """Write ``text``; ``serious`` if a person should look, ``about`` names what it concerns."""
        ...


def log_to(stream: TextIO, environ: Mapping[str, str], keep: Callable[[str], None] | None = None) -> Log:
    """Return a log: JSON documents where systemd collects them, text anywhere else.

    Where no journal keeps it, each line is handed to ``keep`` too, as JSON.
    """
    journal = in_journal(environ)
    structured = (journal or "INVOCATION_ID" in environ) and not stream.isatty()
    shown = (journal_line if journal else as_json) if structured else as_text

    def log(text: str, *, serious: bool = False, about: Mapping[str, str] = NOTHING) -> None:
        line = line_of(text, serious=serious, about=about)
        if keep is not None and not journal:
            keep(as_json(line))
        stream.write(shown(line) + "\n")
        stream.flush()

    return log


def in_journal(environ: Mapping[str, str]) -> bool:
    """Return whether systemd's journal collects what this process prints (systemd.exec(5))."""
    return "JOURNAL_STREAM" in environ


def line_of(text: str, *, serious: bool, about: Mapping[str, str] = NOTHING) -> LogLine:
    """Return a line said now."""
    return LogLine(time=time.time(), level=LogLevel.WARNING if serious else LogLevel.INFO, text=text, about=about)


def journal_line(line: LogLine) -> str:
    """Return a JSON document after the priority that sd-daemon(3) describes; the journal takes it off again."""
    return f"<{4 if line.level is LogLevel.WARNING else 6}>{as_json(line)}"
