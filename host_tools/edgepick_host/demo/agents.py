"""The demo's agents as operating-system processes: written, started, killed and ended by their handles."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgepick_host.demo.fleet import Member, Site, agent_toml
from edgepick_host.errors import StateError

STOP_SECONDS = 10.0
LOG_LINES = 12


@dataclass(slots=True, kw_only=True)
class Agent:
    """One agent, which may or may not be running.

    Attributes:
        member: Who it is.
        home: Its folder: configuration, log and state.
        process: Its process, once started; a session of its own, so that its runners end with it.
        starts: How often it was started.
    """

    member: Member
    home: Path
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    starts: int = 0

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.home / "agent.toml"

    @property
    def log(self) -> Path:
        """What it says; every start appends."""
        return self.home / "agent.log"

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Leave it running; does not wait for it."""
        if self.running:
            return
        command = [sys.executable, "-m", "edgepick_agent", "run", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.starts += 1

    def kill(self) -> None:
        """End it and its runners with SIGKILL, as a power cut would; returns when it is gone."""
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
                f"agent {self.member.device} ended with code {self.process.returncode}:\n{self.last_words()}",
                hint=f"see {self.log}",
            )

    def last_words(self) -> str:
        """Return the last lines of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        except OSError:
            return ""

    def rss_bytes(self) -> int | None:
        """Return the resident memory of the agent process alone; ``None`` if it cannot be read."""
        if self.process is None:
            return None
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return None
        return pages * os.sysconf("SC_PAGE_SIZE")


def install(member: Member, site: Site, *, port: int | None = None) -> Agent:
    """Return an agent whose configuration is written; it is not started."""
    agent = Agent(member=member, home=site.home(member))
    agent.home.mkdir(parents=True, exist_ok=True)
    agent.config.write_text(agent_toml(member, site, port=port), encoding="utf-8")
    return agent


def stop_all(agents: Sequence[Agent]) -> None:
    """Leave none of them running: all are told first, then waited for."""
    for agent in agents:
        if agent.process is not None and agent.running:
            agent.process.terminate()
    for agent in agents:
        agent.stop()
