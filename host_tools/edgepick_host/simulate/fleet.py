"""A simulated fleet in a few processes: started, watched, and ended together.

Rules:
- A process ends when its parent does, however that ended.
- Devices are dealt to the processes in turn, so that every process has a share of every stratum.
"""

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TypeVar

from edgepick_host.errors import HostError, UnreachableError
from edgepick_host.simulate.hub import Hub, HubPlan
from edgepick_host.simulate.scenario import Identity, Scenario, identities
from edgepick_host.simulate.tally import DeviceRecord, Tally, added
from edgepick_wire.envelope import VerifySignature

SHOW_SECONDS = 1.0
END_SECONDS = 30.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """A fleet to simulate."""

    scenario: Scenario
    devices: int
    processes: int
    hub: HubPlan
    check: VerifySignature


@dataclass(frozen=True, slots=True)
class Failed:
    """What a process says when it cannot go on."""

    text: str
    hint: str


def simulate(
    plan: FleetPlan, *, show: Callable[[Tally], None], stopped: Callable[[], bool]
) -> tuple[DeviceRecord, ...]:
    """Return what became of every device, by its number, once ``stopped``; ``show`` gets the counts every second.

    Raises:
        UnreachableError: No broker, or a process ended by itself.
        MalformedError: No such number of devices.
    """
    identities(plan.scenario, plan.devices)  # refused here rather than in every process
    with _workers(plan) as pipes:
        while not stopped():
            show(added(_asked(pipe, Tally) for pipe in pipes))
            _sleep(SHOW_SECONDS, stopped)
        show(added(_asked(pipe, Tally) for pipe in pipes))
        found = [record for pipe in pipes for record in _asked(pipe, list)]
    return tuple(sorted(found, key=lambda record: record.number))


def _sleep(seconds: float, stopped: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not stopped() and time.monotonic() < until:
        time.sleep(0.05)


@contextmanager
def _workers(plan: FleetPlan) -> "Iterator[list[Connection[type, object]]]":
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for part in range(plan.processes):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(plan, part, theirs), name=f"edgepick-simulate-{part}", daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        yield pipes
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(END_SECONDS)
            if process.is_alive():
                process.kill()


def _asked(pipe: "Connection[type, object]", kind: type[T]) -> T:
    try:
        pipe.send(kind)
        answer = pipe.recv()
    except (EOFError, OSError) as error:
        raise UnreachableError(
            "a process of the simulation ended by itself", hint="Its last words are above."
        ) from error
    if isinstance(answer, Failed):
        raise UnreachableError(answer.text, hint=answer.hint)
    if not isinstance(answer, kind):
        raise TypeError(f"a defect of the simulator: {kind.__name__} was asked for, {type(answer).__name__} came")
    return answer


def work(plan: FleetPlan, part: int, pipe: "Connection[object, type]") -> None:
    """Be one process of the fleet until the pipe is closed: answer every type that comes with a value of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent says when to end
    mine: tuple[Identity, ...] = identities(plan.scenario, plan.devices)[part :: plan.processes]
    hub = Hub(plan.hub, mine, plan.check)
    try:
        hub.open()
        _live(hub, pipe)
    except HostError as error:
        _answer(pipe, Failed(str(error), error.hint))
    left = hub.close()
    if left:  # said here: the parent listens no more
        sys.stderr.write(
            f"warning: the broker did not acknowledge the last {left} messages: devices may stay online there\n"
        )


def _live(hub: Hub, pipe: "Connection[object, type]") -> None:
    while True:
        hub.turn()
        while pipe.poll():
            try:
                asked = pipe.recv()
            except EOFError:
                return
            _answer(pipe, hub.tally() if asked is Tally else hub.records())


def _answer(pipe: "Connection[object, type]", value: object) -> None:
    try:
        pipe.send(value)
    except OSError:
        return
