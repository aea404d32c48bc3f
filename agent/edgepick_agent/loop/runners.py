"""The runner processes that are alive, by key."""

from collections.abc import Callable, Iterator

from edgepick_agent.core.events import RunnerNotStarted, RunnerSeen
from edgepick_agent.core.runner_spec import RunnerMode, RunnerSpec
from edgepick_agent.errors import FULL, AgentError
from edgepick_agent.ports import RunnerLauncher, RunnerProcess, RunnerState


class Runners:
    """Starts, watches and stops runners. All from one thread: a runner ends with the thread that started it.

    Args:
        launcher: Starts the processes.
        point: Makes a socket name lead to another; ``None`` removes it.
    """

    def __init__(self, launcher: RunnerLauncher, point: Callable[[str, str | None], None]) -> None:
        self._launcher = launcher
        self._point = point
        self._alive: dict[str, RunnerProcess] = {}
        self._fronts: dict[str, RunnerProcess] = {}
        self._retiring: list[tuple[RunnerProcess, float]] = []

    def __bool__(self) -> bool:
        return bool(self._alive or self._retiring)

    def start(self, key: str, spec: RunnerSpec, mode: RunnerMode) -> RunnerNotStarted | None:
        """Start a runner in place of one with the same key; return why not, if not."""
        self.stop(key)
        try:
            self._alive[key] = self._launcher.start(spec, mode)
        except (AgentError, OSError) as error:
            full = isinstance(error, OSError) and error.errno in FULL
            return RunnerNotStarted(key, f"its runner cannot be started: {error}", full=full)
        return None

    def front(self, key: str, name: str, target: str) -> None:
        """Lead a model's clients to a runner: by the socket's name, and by the port if there is one."""
        self._point(name, target)
        process = self._alive.get(key)
        if process is None:
            return
        former, self._fronts[name] = self._fronts.get(name, process), process
        process.front()
        if former is not process:
            former.leave_port()

    def close_front(self, model: str, name: str) -> None:
        """Lead a model's clients nowhere."""
        self._fronts.pop(name, None)
        self._launcher.close_port(model)
        self._point(name, None)

    def retire(self, key: str, until: float) -> None:
        """Let a runner answer whoever is connected, and end; from ``until`` on, or once it hangs, it is killed."""
        process = self._alive.pop(key, None)
        if process is not None:
            process.retire()
            self._retiring.append((process, until))

    def stop(self, key: str) -> None:
        """Stop a runner, if there is one."""
        process = self._alive.pop(key, None)
        if process is not None:
            process.stop()

    def stop_all(self) -> None:
        """Stop every runner, without much patience."""
        for process in (*self._alive.values(), *(process for process, _ in self._retiring)):
            process.stop(grace_seconds=0.5)
        self._alive.clear()
        self._retiring.clear()
        self._launcher.close()

    def look(self, now: float) -> Iterator[RunnerSeen]:
        """Yield what every runner looks like now; those that have retired are cleared away."""
        self._retiring = [each for each in self._retiring if not self._is_gone(*each, now)]
        for key, process in tuple(self._alive.items()):
            seen = process.observe()
            ended = seen.state is RunnerState.EXITED
            yield RunnerSeen(key, process.pid, seen, process.result() if ended else None, process.shadow())

    def _is_gone(self, process: RunnerProcess, until: float, now: float) -> bool:
        # Whoever is connected to one that hangs gets no answer from it, but can get one from its successor.
        over = process.observe().state in (RunnerState.EXITED, RunnerState.HUNG) or now >= until
        if over:
            process.stop(grace_seconds=0.0)
        return over
