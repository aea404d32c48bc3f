"""What the technician's commands and the running agent say to each other.

One JSON line each way over ``<state_dir>/control.sock``. Without a running agent the commands do
the same on the state directory themselves, under its lock.
"""

from dataclasses import dataclass

from edgepick_wire.enums import StrEnum
from edgepick_wire.messages import ModelState, Refusal, RuntimeAvailable
from edgepick_wire.shadow import ShadowSummary

CONTROL_SOCKET = "control.sock"
CONTROL_THREAD = "control"
"""Name of the threads that answer technicians."""


class Command(StrEnum):
    """What can be asked of a running agent."""

    STATUS = "status"
    ROLLBACK = "rollback"
    INSTALL = "install"
    PIN = "pin"
    UNPIN = "unpin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRequest:
    """One request.

    Attributes:
        command: What to do.
        model: For ``rollback``, ``pin`` and ``unpin``: which model; may be left out when there is one.
        manifest: For ``pin``: digest of an installed variant; what serves if it is left out.
        path: For ``install``: the bundle file, absolute.
    """

    command: Command
    model: str | None = None
    manifest: str | None = None
    path: str | None = None


WAITING = "waiting"
"""State of a runner that has no process now; every other one is a value of ``RunnerState``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerStatus:
    """The runner of one model: its state, process, memory and failures in a row."""

    model: str
    state: str
    pid: int | None = None
    rss_bytes: int | None = None
    failures: int = 0
    socket: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowStatus:
    """The candidate that shadows what serves: its runner, and what it has seen so far."""

    model: str
    manifest: str
    label: str
    state: str
    pid: int | None = None
    rss_bytes: int | None = None
    summary: ShadowSummary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """What ``edgepick-agent status`` shows.

    Attributes:
        running: An agent answers; otherwise this was read from the state directory.
        broker: "connected", "connecting", or what went wrong last, in words.
        outbox: Reports not yet acknowledged by the host.
        runtimes: What can run a model here; ``None`` while it is not known.
        held: Models that a technician pinned until they are unpinned.
        absent: What a download waits for because the broker does not have it, in words.
        last_error: The latest refusal or incident, in words.
    """

    running: bool
    device: str
    fleet: str
    profile: str
    session: int
    broker: str
    sequence: int
    security_epoch: int
    models: tuple[ModelState, ...] = ()
    runners: tuple[RunnerStatus, ...] = ()
    shadow: ShadowStatus | None = None
    outbox: int = 0
    disk_free_bytes: int = 0
    rss_bytes: int | None = None
    runtimes: tuple[RuntimeAvailable, ...] | None = None
    held: tuple[str, ...] = ()
    absent: str | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlReply:
    """The answer: a status, and for a refused command why.

    Attributes:
        starting: The agent is not ready yet; the same request will do a moment later.
    """

    ok: bool
    starting: bool = False
    status: AgentStatus | None = None
    refusal: Refusal | None = None
    error: str | None = None
    hint: str | None = None
