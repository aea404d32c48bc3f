"""Where units of work are done: in this process, or in worker processes of this machine.

Workers are started anew (never forked), import only what their jobs need, and end by themselves when the process that
feeds them is gone, however it went. One that dies takes a single job with it: that job's result is
:class:`~edgepick_host.compress.work.Crashed`, and another worker takes its place.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import Protocol

from edgepick_host.compress.step import PassLoader
from edgepick_host.compress.work import Crashed, Job, Material, Result, do

WORKER = "edgepick_host.compress.worker"

Done = tuple[int, Result]
"""Position of a job, and its result."""


class Executor(Protocol):
    """Does jobs that share one material."""

    def run(self, jobs: Sequence[Job], deadline: float | None) -> Iterator[Done]:
        """Yield results as they come; what is not done by ``deadline`` (of ``time.monotonic``) is left out.

        Raises:
            HostError: As :func:`edgepick_host.compress.work.do`.
        """
        ...

    def close(self) -> None:
        """Leave nothing running."""
        ...


class InlineExecutor:
    """Does jobs here, one after another."""

    def __init__(self, material: Material, passes: PassLoader) -> None:
        self._material, self._passes = material, passes

    def run(self, jobs: Sequence[Job], deadline: float | None) -> Iterator[Done]:
        """Yield results in order."""
        for index, job in enumerate(jobs):
            if deadline is not None and time.monotonic() >= deadline:
                return
            yield index, do(job, self._material, self._passes)

    def close(self) -> None:
        """Do nothing: nothing runs."""


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, start: bytes) -> None:
        self.pipe, theirs = Pipe()
        self.job: int | None = None
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", WORKER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            )
        with suppress(OSError):  # a worker that is dead already shows when its answer is waited for
            self.pipe.send_bytes(start)

    def give(self, index: int, job: Job) -> None:
        """Hand a job over."""
        self.job = index
        with suppress(OSError):
            self.pipe.send(job)

    def end(self) -> int:
        """Return the exit code, after stopping the process whatever it does."""
        self.pipe.close()
        self._process.kill()
        return self._process.wait()

    def died(self) -> Crashed:
        """Return how the process ended that closed its pipe."""
        code = self._process.wait()
        self.pipe.close()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return Crashed(reason=f"the process that computed it {how}")


class LocalExecutor:
    """Does jobs in worker processes, started when they are first needed.

    Args:
        material: What all jobs share.
        passes: Importable by name in another process.
        workers: How many.
    """

    def __init__(self, material: Material, passes: PassLoader, workers: int) -> None:
        self._start = pickle.dumps((material, passes))
        self._count = workers
        self._workers: list[_Worker] = []

    def run(self, jobs: Sequence[Job], deadline: float | None) -> Iterator[Done]:
        """Yield results as they come; at the deadline, what still runs is stopped."""
        waiting = list(enumerate(jobs))[::-1]
        try:
            while waiting or self._busy():
                self._hand_out(waiting)
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = wait([worker.pipe for worker in self._busy()], left)
                if not ready:
                    return
                yield from (self._collect(worker) for worker in self._busy() if worker.pipe in ready)
        finally:
            for worker in self._busy():
                self._drop(worker)

    def close(self) -> None:
        """Stop every worker."""
        for worker in list(self._workers):
            self._drop(worker)

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _hand_out(self, waiting: list[tuple[int, Job]]) -> None:
        while waiting and len(self._busy()) < self._count:
            idle = next((worker for worker in self._workers if worker.job is None), None)
            if idle is None:
                idle = _Worker(self._start)
                self._workers.append(idle)
            idle.give(*waiting.pop())

    def _collect(self, worker: _Worker) -> Done:
        assert worker.job is not None
        index = worker.job
        try:
            result = worker.pipe.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            return index, worker.died()
        worker.job = None
        if isinstance(result, BaseException):
            raise result
        return index, result

    def _drop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.end()


def serve(pipe: Connection) -> None:
    """Do jobs from a pipe until its other end is closed; the first message is the material and the passes."""
    material, passes = pipe.recv()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            result: object = do(job, material, passes)
        except Exception as error:  # noqa: BLE001 - it is raised where the job came from
            result = error
        pipe.send(result)
