"""The demo's programs obey their handles, and waiting has an end."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepick_host.demo.processes import Child, stop_all
from edgepick_host.demo.waiting import wait_until
from edgepick_host.errors import StateError

DEADLINE = 60.0
SCRIPT = 'echo "started"; sleep 600 & echo child $!; wait'


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child(name="a program", command=("/bin/sh", "-c", SCRIPT), log=tmp_path / "log")
    yield made
    made.kill()


def child_of(child: Child) -> int:
    """Return the id of the process that the program started, once it has said so."""

    def look() -> int | None:
        lines = child.log.read_text().splitlines()
        return next((int(line.split()[1]) for line in reversed(lines) if line.startswith("child ")), None)

    return wait_until(look, what="the child", seconds=DEADLINE)


def gone(pid: int) -> bool:
    """Return whether a process has ended, buried or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_killed_program_takes_its_children_with_it(child: Child) -> None:
    """SIGKILL ends the whole session, as a power cut would, and it can be started again."""
    child.start()
    grandchild = child_of(child)

    child.kill()

    wait_until(lambda: gone(grandchild), what="the child to end", seconds=DEADLINE)
    assert not child.running
    child.start()
    assert (child.running, child.starts) == (True, 2)


def test_starting_twice_starts_once(child: Child) -> None:
    """A program that runs is left alone."""
    child.start()
    first = child.process

    child.start()

    assert child.process is first
    assert child.starts == 1


def test_stopping_is_polite_and_can_be_repeated(child: Child) -> None:
    """SIGTERM ends the process; a second stop does nothing."""
    child.start()
    grandchild = child_of(child)

    stop_all([child])
    stop_all([child])

    assert child.process is not None
    assert child.process.returncode == -15
    os.kill(grandchild, 9)


def test_memory_is_that_of_the_process(child: Child) -> None:
    """A running process has some resident memory; one that never ran has none to tell."""
    assert child.rss_bytes() is None

    child.start()
    child_of(child)

    assert (child.rss_bytes() or 0) > 4096


def test_a_program_that_ended_by_itself_is_quoted(tmp_path: Path) -> None:
    """Waiting for a dead program fails at once, with its last words."""
    dead = Child(name="pi4", command=("/bin/sh", "-c", "echo no broker, no life; exit 3"), log=tmp_path / "log")
    dead.start()
    assert dead.process is not None
    dead.process.wait(DEADLINE)

    with pytest.raises(StateError, match=r"(?s)pi4 ended with code 3.*no broker, no life"):
        dead.check()


def test_waiting_ends_with_the_first_true_answer() -> None:
    """The value itself comes back."""
    answers = iter([None, 0, "here"])

    assert wait_until(lambda: next(answers), what="it", seconds=5, interval_seconds=0) == "here"


def test_waiting_in_vain_says_for_what_and_what_to_do() -> None:
    """The message names it and the hint helps."""
    with pytest.raises(StateError, match="in vain for godot") as raised:
        wait_until(lambda: None, what="godot", seconds=0, hint="leave")

    assert raised.value.hint == "leave"


def test_waiting_for_the_dead_ends_at_once(tmp_path: Path) -> None:
    """What makes waiting pointless is raised instead of the deadline."""
    dead = Child(name="pi4", command=("/bin/false",), log=tmp_path / "log")
    dead.start()
    assert dead.process is not None
    dead.process.wait(DEADLINE)

    with pytest.raises(StateError, match="pi4 ended"):
        wait_until(lambda: None, what="godot", seconds=600, check=dead.check)
