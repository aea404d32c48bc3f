"""The agent's log: one line each, for people on a terminal, as JSON under systemd."""

import json
import time
from collections.abc import Mapping
from typing import Protocol, TextIO

NOTHING: Mapping[str, str] = {}


class Log(Protocol):
    """Writes one line."""

    def __call__(self, text: str, *, serious: bool = False, about: Mapping[str, str] = NOTHING) -> None:
        """Write ``text``; ``serious`` if a person should look, ``about`` names what it concerns."""
        ...


def log_to(stream: TextIO, environ: Mapping[str, str]) -> Log:
    """Return a log: JSON documents where systemd collects them, text anywhere else."""
    journal = "JOURNAL_STREAM" in environ
    structured = (journal or "INVOCATION_ID" in environ) and not stream.isatty()
    line = (journal_line if journal else json_line) if structured else text_line

    def log(text: str, *, serious: bool = False, about: Mapping[str, str] = NOTHING) -> None:
        stream.write(line(text, serious=serious, about=about, now=time.time()) + "\n")
        stream.flush()

    return log


def text_line(text: str, *, serious: bool, about: Mapping[str, str], now: float) -> str:
    """Return ``12:34:56  text  (key value)``."""
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    named = ", ".join(f"{key} {value}" for key, value in about.items())
    return f"{clock} {'!' if serious else ' '} {text}" + (f"  ({named})" if named else "")


def json_line(text: str, *, serious: bool, about: Mapping[str, str], now: float) -> str:
    """Return one JSON document on one line."""
    level = "warning" if serious else "info"
    document = {"time": round(now, 3), "level": level, "text": text, **({"about": dict(about)} if about else {})}
    return json.dumps(document, ensure_ascii=False)


def journal_line(text: str, *, serious: bool, about: Mapping[str, str], now: float) -> str:
    """Return a JSON document after the priority that sd-daemon(3) describes; the journal takes it off again."""
    return f"<{4 if serious else 6}>{json_line(text, serious=serious, about=about, now=now)}"
