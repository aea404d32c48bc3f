"""The agent under test: one command line, its folder, its process. Ended by its handle only."""

import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from edgepick_host.conformance.interface import CONTEXT_FILE, AgentAnswer, Context, ExitCode, InitAnswer
from edgepick_host.conformance.verdict import CaseFailedError
from edgepick_host.errors import InputFileError
from edgepick_wire import codec
from edgepick_wire.errors import WireError

Answer = TypeVar("Answer")
COMMAND_SECONDS = 30.0
"""Longest time for ``init`` and ``status``."""
STOP_SECONDS = 15.0
"""Longest time from SIGTERM to the end of ``run``."""
TAIL_CHARACTERS = 400


@dataclass(slots=True, kw_only=True)
class AgentUnderTest:
    """Drives ``command`` in ``folder``.

    Attributes:
        command: Program and leading arguments.
        folder: Holds ``state``, which is the agent's, and its log.
        abandoned: Nobody waits for this case any more.
    """

    command: tuple[str, ...]
    folder: Path
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    abandoned: bool = False

    @property
    def state(self) -> Path:
        """The folder that the agent gets."""
        return self.folder / "state"

    @property
    def log(self) -> Path:
        """Where what ``run`` says goes."""
        return self.folder / "agent.log"

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    def init(self, context: Context) -> InitAnswer:
        """Return what ``init`` answers.

        Raises:
            CaseFailedError: It failed, or answered something else.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        file = self.folder / CONTEXT_FILE
        file.write_bytes(codec.encode_document(context, indent=2))
        done = self._call("init", str(self.state), str(file))
        return self._answer(InitAnswer, "init", done)

    def status(self) -> AgentAnswer | None:
        """Return what ``status`` answers; ``None`` while the agent is not ready.

        Raises:
            CaseFailedError: It failed, or answered something else.
        """
        done = self._call("status", str(self.state))
        if done.returncode == ExitCode.NOT_RUNNING:
            return None
        return self._answer(AgentAnswer, "status", done)

    def start(self) -> None:
        """Leave ``run`` running."""
        self.check()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "run", str(self.state)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        """Do nothing while it lives.

        Raises:
            CaseFailedError: It ended by itself, or the case was abandoned.
        """
        if self.abandoned:
            raise CaseFailedError("the run was ended")
        if self.process is not None and self.process.poll() is not None:
            raise CaseFailedError(f"the agent ended with code {self.process.returncode}: {self._last_words()}")

    def stop(self) -> None:
        """End it with SIGTERM.

        Raises:
            CaseFailedError: It did not end in time, or not with code 0.
        """
        if self.process is None:
            return
        self.process.terminate()
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise CaseFailedError(f"still running {STOP_SECONDS:.0f} s after SIGTERM") from error
        self.process = None
        if code:
            raise CaseFailedError(f"ended with code {code} after SIGTERM, expected 0: {self._last_words()}")

    def kill(self) -> None:
        """End it and its children with SIGKILL, as a power cut would."""
        if self.process is None:
            return
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def abandon(self) -> None:
        """End it, and have the case that uses it end at its next step."""
        self.abandoned = True
        process = self.process
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def _call(self, *words: str) -> "subprocess.CompletedProcess[bytes]":
        try:
            return subprocess.run(
                [*self.command, *words],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise CaseFailedError(f"`{words[0]}` took longer than {COMMAND_SECONDS:.0f} s") from error
        except OSError as error:
            raise InputFileError(
                f"{self.command[0]}: cannot be started ({error.strerror or error})",
                hint="Give the agent's command after `--`: edgepick conformance run -- ./my-agent",
            ) from error

    def _answer(self, kind: type[Answer], word: str, done: "subprocess.CompletedProcess[bytes]") -> Answer:
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-TAIL_CHARACTERS:]
            raise CaseFailedError(f"`{word}` ended with code {done.returncode}: {said or 'no message'}")
        try:
            return codec.decode_document(kind, done.stdout)
        except WireError as error:
            raise CaseFailedError(f"`{word}` answered something else than documented: {error}") from error

    def _last_words(self) -> str:
        try:
            return self.log.read_text(errors="replace").strip()[-TAIL_CHARACTERS:]
        except OSError:
            return "no message"
