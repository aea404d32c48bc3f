"""The demo's other programs as operating-system processes: started, killed and ended by their handles only."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgepick_host.errors import StateError

STOP_SECONDS = 10.0
LOG_LINES = 12


@dataclass(slots=True, kw_only=True)
class Child:
    """A program that may or may not be running.

    Attributes:
        name: For people.
        command: How it is started.
        log: Where what it says goes; every start appends.
        environment: Its environment variables; ``None`` for ours.
        process: Its process, once started; a session of its own, so that its children end with it.
        starts: How often it was started.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] | None = None
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    starts: int = 0

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Leave it running; does not wait for it."""
        if self.running:
            return
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
        self.starts += 1

    def kill(self) -> None:
        """End it and its children with SIGKILL, as a power cut would; returns when it is gone."""
        if self.process is None:
            return
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it with SIGTERM; with SIGKILL if it does not follow."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def check(self) -> None:
        """Do nothing while it lives.

        Raises:
            StateError: It ended by itself; the message quotes its log.
        """
        if self.process is not None and self.process.poll() is not None:
            raise StateError(
                f"{self.name} ended with code {self.process.returncode}:\n{self.last_words()}", hint=f"see {self.log}"
            )

    def last_words(self) -> str:
        """Return the last lines of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        except OSError:
            return ""

    def rss_bytes(self) -> int | None:
        """Return the resident memory of the process alone, without its children; ``None`` if it cannot be read."""
        if self.process is None:
            return None
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return None
        return pages * os.sysconf("SC_PAGE_SIZE")


def stop_all(children: Sequence[Child]) -> None:
    """Leave none of them running: all are told first, then waited for."""
    for child in children:
        if child.process is not None and child.running:
            child.process.terminate()
    for child in children:
        child.stop()
