"""The runner processes that are alive, by key."""

from collections.abc import Callable, Iterator

from edgepick_agent.core.events import RunnerNotStarted, RunnerSeen
from edgepick_agent.core.runner_spec import RunnerMode, RunnerSpec
from edgepick_agent.errors import AgentError
from edgepick_agent.ports import RunnerLauncher, RunnerProcess, RunnerState


class Runners:
    """Starts, watches and stops runners. All from one thread: a runner ends with the thread that started it."""

    def __init__(self, launcher: RunnerLauncher, point: Callable[[str, str | None], None]) -> None:
        self._launcher = launcher
        self._alive: dict[str, RunnerProcess] = {}
        self.point = point
        """Makes a socket name lead to another; ``None`` removes it."""

    def __bool__(self) -> bool:
        return bool(self._alive)

    def start(self, key: str, spec: RunnerSpec, mode: RunnerMode) -> RunnerNotStarted | None:
        """Start a runner in place of one with the same key; return why not, if not."""
        self.stop(key)
        try:
            self._alive[key] = self._launcher.start(spec, mode)
        except (AgentError, OSError) as error:
            return RunnerNotStarted(key, f"it cannot be started: {error}")
        return None

    def stop(self, key: str) -> None:
        """Stop a runner, if there is one."""
        process = self._alive.pop(key, None)
        if process is not None:
            process.stop()

    def stop_all(self) -> None:
        """Stop every runner, without much patience."""
        for process in self._alive.values():
            process.stop(grace_seconds=0.5)
        self._alive.clear()

    def look(self) -> Iterator[RunnerSeen]:
        """Yield what every runner looks like now."""
        for key, process in tuple(self._alive.items()):
            seen = process.observe()
            ended = seen.state is RunnerState.EXITED
            yield RunnerSeen(key, process.pid, seen, process.result() if ended else None)
