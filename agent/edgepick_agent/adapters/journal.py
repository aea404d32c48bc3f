"""What systemd's journal holds of the agent's service, asked by journalctl(1)."""

import subprocess
from collections.abc import Iterator, Sequence

UNIT = "edgepick-agent"
ANSWER_SECONDS = 20.0


def read(*, lines: int | None, since: float | None, serious: bool) -> list[str]:
    """Return the service's latest entries as JSON, oldest first; none where there is no journal to ask."""
    many = () if lines is None else ("--lines", str(lines))
    command = [*_command(since=since, serious=serious), *many]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.decode("utf-8", "replace") for line in done.stdout.splitlines()]


def follow(*, serious: bool) -> Iterator[str]:
    """Yield the service's entries as JSON as they are written, for ever."""
    command = [*_command(since=None, serious=serious), "--follow", "--lines", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield line.decode("utf-8", "replace")
        finally:
            process.terminate()


def _command(*, since: float | None, serious: bool) -> Sequence[str]:
    moment = () if since is None else ("--since", f"@{since:.0f}")
    level = ("--priority", "warning") if serious else ()
    return ("journalctl", "--unit", UNIT, "--no-pager", "--output", "json", *moment, *level)
