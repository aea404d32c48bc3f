"""The one place where an exception becomes what a person reads, and an exit code."""

import errno
import os
import select
import sys
import traceback
from pathlib import Path
from typing import TextIO

from edgepick_agent.cli.render import printable
from edgepick_agent.errors import FULL, AgentError
from edgepick_wire.errors import SignatureError, WireError

DEFECT = "This is a defect of edgepick: please report it, with what `edgepick-agent --verbose ...` prints."
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
READER_GONE = 141
"""128 + SIGPIPE, likewise: whoever read the output has enough."""
NO_ROOM = FULL | {errno.EIO}
"""What a full or broken disk, or ``/dev/full``, answers to what a command prints."""


def render(error: BaseException, *, verbose: bool = False) -> int:
    """Write ``error: ...`` and ``hint: ...`` to standard error; return the exit code."""
    if verbose:
        traceback.print_exception(type(error), error, error.__traceback__)
    sys.stderr.write(f"{text_of(error)}\n")
    sys.stderr.flush()
    _drop_unwritten()
    return explain(error)[2]


def text_of(error: BaseException) -> str:
    """Return ``error: ...`` and ``hint: ...`` in lines that a terminal can show."""
    message, hint, _ = explain(error)
    said = f"error: {message}\n" + (f"hint: {hint}\n" if hint else "")
    return "\n".join(printable(line) for line in said.splitlines())


def _drop_unwritten() -> None:
    """Send what standard output did not take nowhere, or Python would try again at its end, and complain of itself."""
    try:
        sys.stdout.flush()
    except OSError:
        _nowhere(sys.stdout)


def reader_gone() -> bool:
    """Return whether nobody reads the output any more; what is still unwritten then goes nowhere, without a word."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if _hung_up(stream.fileno())]
    for stream in gone:
        _nowhere(stream)
    return bool(gone)


def _nowhere(stream: TextIO) -> None:
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


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
    return _everyday(error) or (f"unexpected {type(error).__name__}: {error}", DEFECT, 1)


def _everyday(error: BaseException) -> tuple[str, str, int] | None:
    """Return what to say of damage that is nobody's defect: an output without room, a name that is not UTF-8."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return f"cannot write: {error.strerror}", "Make room there, or send the output elsewhere.", 1
    if isinstance(error, UnicodeEncodeError):
        return f"not UTF-8: {_line_of(error)}", "Give a name that the terminal shows as it is meant.", 2
    return None


def _line_of(error: UnicodeEncodeError) -> str:
    """Return the line that has what cannot be written."""
    return error.object[: error.end].rpartition("\n")[2] + error.object[error.end :].partition("\n")[0]
