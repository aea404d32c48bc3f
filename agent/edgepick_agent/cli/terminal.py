"""What a terminal can show: whether its cursor moves, and which characters it has.

A technician's terminal is often a serial console: 80 x 24, 9600 baud, ``TERM=vt100`` or ``dumb``, no locale.
"""

import io
import sys
from collections.abc import Mapping
from typing import TextIO

PLAIN = frozenset({"", "dumb", "unknown"})
"""Values of TERM without cursor addressing (terminfo: ``dumb``, ``unknown``)."""
ASCII_LOCALES = frozenset({"", "C", "POSIX"})
COERCED = "C.UTF-8"
"""What Python itself puts into LC_CTYPE where there is no locale (PEP 538), knowing nothing of the terminal."""


def moves_cursor(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether ``stream`` is a terminal that obeys escape sequences."""
    return stream.isatty() and environ.get("TERM", "") not in PLAIN


def only_ascii(environ: Mapping[str, str]) -> bool:
    """Return whether the locale (LC_ALL before LC_CTYPE before LANG, as POSIX has it) promises ASCII alone."""
    if everything := environ.get("LC_ALL"):
        return everything in ASCII_LOCALES
    kind = environ.get("LC_CTYPE", "")
    return kind in ASCII_LOCALES | {COERCED} and environ.get("LANG", "") in ASCII_LOCALES


def fit_streams(environ: Mapping[str, str]) -> None:
    """Have stdout and stderr write a question mark for what the terminal does not have, instead of failing."""
    kind = Ascii if only_ascii(environ) else io.TextIOWrapper
    sys.stdout, sys.stderr = (_fitted(stream, kind) for stream in (sys.stdout, sys.stderr))


def _fitted(stream: TextIO, kind: type[io.TextIOWrapper]) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    encoding, by_line, at_once = stream.encoding, stream.line_buffering, stream.write_through
    return kind(stream.detach(), encoding=encoding, errors="replace", line_buffering=by_line, write_through=at_once)


class Ascii(io.TextIOWrapper):
    """A stream that writes ASCII alone; by its encoding it may be any, as click mistrusts one that says ``ascii``."""

    def write(self, text: str, /) -> int:
        """Write ``text``, with a question mark for each other character."""
        return super().write(text.encode("ascii", "replace").decode())
