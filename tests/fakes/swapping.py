"""A model's runners taking over from one another while clients keep asking: real processes, real sockets."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgepick_agent.adapters.clock import SystemClock
from edgepick_agent.adapters.runner_process import Launcher
from edgepick_agent.adapters.socket_name import SocketNames
from edgepick_agent.client import Client
from edgepick_agent.core.events import RunnerSeen
from edgepick_agent.core.runner_spec import RunnerMode, RunnerSpec, RunnerState
from edgepick_agent.loop.runners import Runners

NAME = "run/model.sock"
PATIENCE_SECONDS = 120.0


@dataclass
class Tally:
    """What the clients saw."""

    answered: int = 0
    wrong: int = 0
    failed: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, *, right: bool) -> None:
        with self.lock:
            self.answered += 1
            self.wrong += not right

    def fail(self, error: Exception) -> None:
        with self.lock:
            self.failed.append(f"{type(error).__name__}: {error}")


class Swapping:
    """Runners of one model, one of which has the socket's name and the port.

    ``python`` is their interpreter; a retiring one is killed after ``retire_seconds``.
    """

    def __init__(
        self,
        folder: Path,
        spec: RunnerSpec,
        *,
        python: str | None = None,
        retire_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._folder, self._spec, self._retire_seconds = folder, spec, retire_seconds
        (folder / "run").mkdir()
        self._clock = SystemClock()
        self._runners = Runners(Launcher(python, folder / "work", self._clock), SocketNames(folder))
        self._key = ""
        self.swaps = 0
        self.pids: list[int] = []

    @property
    def path(self) -> Path:
        return self._folder / NAME

    @property
    def model(self) -> str:
        return self._spec.model

    def swap(self) -> None:
        """Start another runner, wait until it is ready, lead clients to it, and let the old one retire."""
        old = self._key
        self.lead(self.start())
        self._runners.retire(old, time.monotonic() + self._retire_seconds)

    def start(self) -> str:
        """Start another runner, whose version is its number; return its key once it is ready."""
        self.swaps += 1
        key, target = f"serve/{self.swaps}", f"run/{self.swaps}.sock"
        spec = replace(self._spec, socket_path=str(self._folder / target), version=str(self.swaps))
        assert self._runners.start(key, spec, RunnerMode.SERVE) is None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._is_ready(key):
            assert time.monotonic() < deadline, "a runner never became ready"
            time.sleep(0.02)
        self.pids.append(self.look()[key].pid)
        return key

    def lead(self, key: str) -> None:
        """Lead clients to a runner."""
        self._runners.front(key, NAME, f"run/{Path(key).name}.sock")
        self._key = key

    def _is_ready(self, key: str) -> bool:
        seen = self.look()[key].observation
        assert seen.state is not RunnerState.EXITED, seen.detail
        return seen.state is RunnerState.READY

    def look(self) -> dict[str, RunnerSeen]:
        """Do what the agent does from time to time: look at every runner, and clear away those that are over."""
        return {each.key: each for each in self._runners.look(time.monotonic())}

    def close(self) -> None:
        self._runners.stop_all()


def ask_while_swapping(
    swapping: Swapping,
    feed: np.ndarray,
    expected: np.ndarray,
    *,
    requests: int,
    clients: int,
    swaps: int,
) -> Tally:
    """Have clients ask until ``requests`` are answered and ``swaps`` are done; return what they saw.

    Every second client keeps its connection, every other one makes a new one for each request.
    """
    tally, swapped = Tally(), threading.Event()

    def is_enough() -> bool:
        return tally.answered >= requests and swapped.is_set()

    with ThreadPoolExecutor(clients) as pool:
        work = [
            pool.submit(_ask, swapping, feed, expected, tally, is_enough, keeps=number % 2 == 0)
            for number in range(clients)
        ]
        for number in range(swaps):
            share = requests * (number + 1) // (swaps + 1)
            _wait(lambda share=share: tally.answered >= share, work)
            swapping.swap()
        swapped.set()
        for one in work:
            one.result(PATIENCE_SECONDS)
    return tally


def _ask(
    swapping: Swapping,
    feed: np.ndarray,
    expected: np.ndarray,
    tally: Tally,
    is_enough: Callable[[], bool],
    *,
    keeps: bool,
) -> None:
    client = Client(swapping.model, path=swapping.path)
    while not is_enough():
        try:
            found = next(iter(client.infer({"image": feed}).values()))
            tally.note(right=np.allclose(found, expected, atol=1e-5))
        except Exception as error:  # noqa: BLE001 - whatever it is, the request was lost
            tally.fail(error)
            if len(tally.failed) > 100:
                return
        if not keeps:
            client.close()
    client.close()


def _wait(condition: Callable[[], bool], work: "list[Future[None]]") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the clients came to a standstill"
        assert not all(one.done() for one in work), "the clients gave up"
        time.sleep(0.01)
