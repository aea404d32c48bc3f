"""Trying a choice's accelerators in order, and remembering why the earlier ones did not work."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from edgepick_agent.errors import AcceleratorError

S = TypeVar("S")

LoadOn = Callable[[str, str | None], S]
"""``(accelerator, why those before it did not work) -> session``; raises ``AcceleratorError``."""


def first_that_works(runtime: str, accelerators: Sequence[str], load_on: LoadOn[S]) -> S:
    """Return the session on the first accelerator that works.

    Raises:
        AcceleratorError: None does; the message says why for each.
    """
    problems: list[str] = []
    for accelerator in accelerators:
        session = _attempt(load_on, accelerator, problems)
        if session is not None:
            return session
    raise AcceleratorError(
        f"{runtime}: no accelerator of {list(accelerators)} works: {'; '.join(problems)}",
        hint='name "cpu" among the accelerators to allow the CPU',
    )


def _attempt(load_on: LoadOn[S], accelerator: str, problems: list[str]) -> S | None:
    try:
        return load_on(accelerator, "; ".join(problems) or None)
    except AcceleratorError as error:
        problems.append(str(error))
        return None
