"""The ``edgepick`` command. Nothing is imported here that a bare installation lacks."""

import importlib.util
import sys

NEEDED = ("click", "rich")
"""What the command line itself needs; everything else is needed by single commands."""


def main() -> int:
    """Return the exit code of the command line in ``sys.argv``."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"error: the edgepick command needs {' and '.join(missing)}, which this installation lacks\n"
            "hint: pip install 'edgepick[host]'\n"
        )
        return 2
    from edgepick_host.cli.main import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
