"""Text for people: tables, sizes, times, and JSON for programs."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from edgepick_wire.codec import plain

KIB = 1024
NOT_MEASURED = "not measured"
NOT_ESTIMABLE = "not estimable"


def as_json_text(value: Any, *, indent: int | None = 2) -> str:
    """Return ``value`` (dataclasses allowed anywhere in it) as JSON, in ASCII, which every terminal and locale has."""
    return json.dumps(plain(value), indent=indent, allow_nan=False)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return left-aligned columns, two spaces apart, without lines."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def pairs(rows: Iterable[tuple[str, str]], *, width: int = 10) -> str:
    """Return ``name  value`` lines."""
    return "\n".join(f"{name.ljust(width)} {value}".rstrip() for name, value in rows)


def size(count: float | None) -> str:
    """Return bytes with a binary unit: ``12.5 MiB``."""
    if count is None:
        return NOT_MEASURED
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < KIB or unit == "GiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= KIB
    raise AssertionError


def duration(nanoseconds: float | None, *, missing: str = NOT_MEASURED) -> str:
    """Return nanoseconds with the unit that reads best: ``1.23 ms``."""
    if nanoseconds is None:
        return missing
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(nanoseconds) >= scale:
            return (
                f"{nanoseconds / scale:.3g} {unit}"
                if nanoseconds < 1000 * scale
                else f"{nanoseconds / scale:.0f} {unit}"
            )
    return f"{nanoseconds:.0f} ns"


def energy(microjoules: float | None) -> str:
    """Return microjoules with the unit that reads best: ``1.23 mJ``."""
    if microjoules is None:
        return NOT_MEASURED
    for unit, scale in (("J", 1e6), ("mJ", 1e3)):
        if abs(microjoules) >= scale:
            return f"{microjoules / scale:.3g} {unit}"
    return f"{microjoules:.3g} uJ"


def short(digest: str | None) -> str:
    """Return the first digits of a digest, enough for people."""
    return digest[:12] if digest else "-"


def printable(text: str) -> str:
    """Return ``text`` with a question mark for whatever could move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)


def clip(text: str, width: int) -> str:
    """Return ``text`` on one line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."
