"""What an inspection of the device found: a level, a sentence, and how to mend it."""

from collections.abc import Iterable
from dataclasses import dataclass

from edgepick_wire.enums import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    """Works, but not as well as it could; or could not be checked."""
    FAIL = "fail"
    """The agent cannot do its work until this is mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's result.

    Attributes:
        check: Short name of what was looked at ("broker", "clock").
        detail: What was found, one sentence.
        mend: What to do about it; empty if nothing is to be done.
    """

    check: str
    level: Level
    detail: str
    mend: str = ""


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level among the findings; ``OK`` for none."""
    order = list(Level)
    return max((f.level for f in findings), key=order.index, default=Level.OK)
