"""An external power meter: where its values come from, and how they are written."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgepick_agent.core.settings import BrokerSettings, PowerSettings

NUMBER = re.compile(r"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(W|mW|kW)?\s*")
UNITS = {"": 1.0, "W": 1.0, "mW": 1e-3, "kW": 1e3}
COMPLAINT = "!"
"""Begins a line of the relay that says why there is no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSource:
    """What the relay of an external meter is told.

    Attributes:
        power: The command or the topic.
        broker: Where the topic is; ``None`` with a command.
        parent_pid: The process that the relay must not outlive.
    """

    power: PowerSettings
    broker: BrokerSettings | None
    parent_pid: int


def watts(text: str, key: str | None = None) -> float | None:
    """Return the power that a line or message says; ``None`` if it says none.

    "3.25", "3.25 W", "3250 mW", or JSON in which ``key`` ("ENERGY.Power") names a number or such a text.
    What is negative or no number is no power.
    """
    if key is not None:
        found = _inside(text, key)
        text = "" if found is None else str(found)
    match = NUMBER.fullmatch(text)
    if match is None:
        return None
    value = float(match[1]) * UNITS[match[2] or ""]
    return value if value >= 0 and math.isfinite(value) else None


def _inside(text: str, key: str) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return None if isinstance(found, bool) else found
