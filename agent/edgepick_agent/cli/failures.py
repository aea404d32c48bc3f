"""The one place where an exception becomes what a person reads, and an exit code."""

import sys
import traceback

from edgepick_agent.errors import AgentError
from edgepick_wire.errors import SignatureError, WireError

DEFECT = "This is a defect of edgepick: please report it, with what `edgepick-agent --verbose ...` prints."
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def render(error: BaseException, *, verbose: bool = False) -> int:
    """Write ``error: ...`` and ``hint: ...`` to standard error; return the exit code."""
    if verbose:
        traceback.print_exception(type(error), error, error.__traceback__)
    message, hint, code = explain(error)
    sys.stderr.write(f"error: {message}\n" + (f"hint: {hint}\n" if hint else ""))
    sys.stderr.flush()
    return code


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
