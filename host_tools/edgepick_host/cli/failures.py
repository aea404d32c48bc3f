"""The one place where an exception becomes what a person or a program reads, and an exit code."""

import errno
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from edgepick_host.errors import HostError
from edgepick_profiles.errors import ProfileError
from edgepick_wire.errors import BadNameError, WireError

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""What a full or broken disk, or ``/dev/full``, answers to what a command prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong, in words and in numbers."""

    code: str
    message: str
    hint: str
    exit_code: int


def explain(error: BaseException) -> Failure:
    """Return what a person is told about an error."""
    if isinstance(error, HostError | ProfileError):
        return Failure(code=error.code, message=str(error), hint=error.hint, exit_code=error.exit_code)
    if isinstance(error, WireError):
        exit_code = 2 if isinstance(error, BadNameError) else 4
        return Failure(code=error.code, message=str(error), hint=error.hint, exit_code=exit_code)
    if isinstance(error, click.ClickException):
        return Failure(code="usage", message=error.format_message(), hint="", exit_code=error.exit_code)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        hint = "Make room there, or send the output elsewhere."
        return Failure(code="no-room", message=f"cannot write: {error.strerror}", hint=hint, exit_code=1)
    return Failure(
        code="unexpected",
        message=f"unexpected: {type(error).__name__}: {error} (this is a bug; run with --verbose for the trace)",
        hint="",
        exit_code=1,
    )


def write_failure(failure: Failure, *, as_json: bool) -> None:
    """Write a failure to standard error: two lines for a person, one JSON object for a program."""
    if as_json:
        document = {
            "error": {
                "code": failure.code,
                "message": failure.message,
                "hint": failure.hint,
                "exit_code": failure.exit_code,
            }
        }
        sys.stderr.write(json.dumps(document, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"error: {failure.message}\n" + (f"hint: {failure.hint}\n" if failure.hint else ""))
    sys.stderr.flush()
    _drop_unwritten()


def _drop_unwritten() -> None:
    """Send what standard output did not take nowhere, or Python would try again at its end, and complain of itself."""
    try:
        sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
