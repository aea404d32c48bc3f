"""Waiting for something that other processes bring about: always with a deadline, never with a bare sleep."""

import time
from collections.abc import Callable
from typing import TypeVar

from edgepick_host.errors import StateError

T = TypeVar("T")
INTERVAL_SECONDS = 0.1


def wait_until(
    look: Callable[[], T | None],
    *,
    what: str,
    seconds: float,
    check: Callable[[], None] = lambda: None,
    hint: str = "",
    interval_seconds: float = INTERVAL_SECONDS,
) -> T:
    """Return the first true value of ``look()``.

    Args:
        look: Called again and again.
        what: What is waited for, for the message: "the agents to report".
        seconds: Longest time.
        check: Called before each look; raises when waiting has become pointless.
        hint: What a person can do if it never comes.
        interval_seconds: Pause between two looks.

    Raises:
        StateError: It did not come in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        check()
        found = look()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise StateError(f"waited {seconds:.0f} s in vain for {what}", hint=hint)
        time.sleep(interval_seconds)
