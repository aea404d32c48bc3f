"""The one place where an exception becomes what a person reads, and an exit code."""

import os
import select
import sys
import traceback
from pathlib import Path

from edgepick_agent.cli.render import printable
from edgepick_agent.errors import AgentError
from edgepick_wire.errors import SignatureError, WireError

DEFECT = "This is a defect of edgepick: please report it, with what `edgepick-agent --verbose ...` prints."
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
READER_GONE = 141
"""128 + SIGPIPE, likewise: whoever read the output has enough."""


def render(error: BaseException, *, verbose: bool = False) -> int:
    """Write ``error: ...`` and ``hint: ...`` to standard error; return the exit code."""
    if verbose:
        traceback.print_exception(type(error), error, error.__traceback__)
    message, hint, code = explain(error)
    said = f"error: {message}\n" + (f"hint: {hint}\n" if hint else "")
    sys.stderr.write("".join(f"{printable(line)}\n" for line in said.splitlines()))
    sys.stderr.flush()
    return code


def reader_gone() -> bool:
    """Return whether nobody reads the output any more; what is still unwritten then goes nowhere, without a word."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if _hung_up(stream.fileno())]
    for stream in gone:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
    return bool(gone)


def _hung_up(descriptor: int) -> bool:
    """Return whether the other end of a pipe or socket is closed (poll(2): reported without being asked for)."""
    poller = select.poll()
    poller.register(descriptor, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poller.poll(0))


def explain(error: BaseException) -> tuple[str, str, int]:
    """Return message, hint and exit code of an error."""
    if isinstance(error, AgentError):
        return str(error), error.hint, error.exit_code
    if isinstance(error, WireError):
        return str(error), error.hint, 4 if isinstance(error, SignatureError) else 1
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("edgepick"):
        return f"the package {error.name!r} is not installed", "pip install 'edgepick[agent]'", 2
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "", INTERRUPTED
    return f"unexpected {type(error).__name__}: {error}", DEFECT, 1
