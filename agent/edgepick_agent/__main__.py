"""``edgepick-agent`` and ``python -m edgepick_agent``.

``run`` with nothing but its config file, as systemd starts it, is read here by hand: the agent then
never loads the command line library, which on a small board costs time and a megabyte.
"""

import os
import sys
from collections.abc import Sequence

from edgepick_agent.cli.terminal import fit_streams

MISSING = """error: the package {name!r} is not installed
hint: pip install 'edgepick[agent]'
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        fit_streams(os.environ)
        _run(given, plain_run(given))
    except KeyboardInterrupt:  # before the command's own handling began: importing takes a while on a small board
        sys.stderr.write("error: interrupted\n")
        sys.exit(130)


def _run(given: list[str], config: str | None) -> None:
    try:
        if config is not None:
            from edgepick_agent.cli.serve import serve
        else:
            from edgepick_agent.cli.commands import cli
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgepick"):
            raise
        sys.stderr.write(MISSING.format(name=error.name))
        sys.exit(2)
    if config is not None:
        sys.exit(serve(config))
    cli.main(given, prog_name="edgepick-agent")


def plain_run(arguments: Sequence[str]) -> str | None:
    """Return the config file if the command is exactly ``run --config FILE``; ``None`` otherwise."""
    if len(arguments) == 3 and arguments[0] == "run" and arguments[1] in {"--config", "-c"}:
        return arguments[2]
    if len(arguments) == 2 and arguments[0] == "run" and arguments[1].startswith("--config="):
        return arguments[1].partition("=")[2]
    return None


if __name__ == "__main__":
    main()
