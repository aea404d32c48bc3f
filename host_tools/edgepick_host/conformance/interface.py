"""The three commands by which any agent is driven: what they are given and what they answer.

    COMMAND init DIR CONTEXT.json    prepare an agent that keeps everything in DIR; answer with an InitAnswer
    COMMAND run DIR                  be that agent, in the foreground, until SIGTERM
    COMMAND status DIR               answer with an AgentAnswer

Answers are one JSON object on standard output; unknown fields are ignored. Exit codes are in :class:`ExitCode`.
"""

from dataclasses import dataclass
from enum import IntEnum

from edgepick_wire.enums import StrEnum
from edgepick_wire.messages import Phase, RefusalCode

INTERFACE = 1
CONTEXT_FILE = "context.json"


class ExitCode(IntEnum):
    """What the exit codes of the three commands mean."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    """``status`` only: no agent runs in this folder, or it is not ready yet; asked again later."""


class Capability(StrEnum):
    """What an agent may be able to do beyond the protocol's core; a case that needs more is skipped."""

    TFLITE = "tflite"
    """Runs ``.tflite`` models."""
    ONNX = "onnx"
    """Runs ``.onnx`` models."""
    GOLDEN = "golden"
    """Runs the self-test of a bundle before it serves the model."""
    REPORTS = "reports"
    """Keeps its reports until they are acknowledged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where the broker listens: plain MQTT 3.1.1, no password."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Waiting times that the agent is asked to take, so that a run takes minutes and not hours.

    Attributes:
        fetch_timeout_seconds: Silence after which a chunk is asked for again.
        confirm_seconds: Time a variant must serve before it is confirmed.
        reconnect_seconds: Longest pause between two attempts to connect.
    """

    fetch_timeout_seconds: float = 0.5
    confirm_seconds: float = 0.1
    reconnect_seconds: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What ``init`` reads from its second argument.

    Attributes:
        interface: Version of this interface.
        fleet: The agent's fleet; another one in each case.
        device: Its id.
        profile: The kind of device it is to be.
        root_document: Absolute path of the fleet's signed root document, version 1.
        broker: Where to connect.
        pace: How long to wait for what.
    """

    interface: int = INTERFACE
    fleet: str
    device: str
    profile: str
    root_document: str
    broker: BrokerAddress
    pace: Pace = Pace()


@dataclass(frozen=True, slots=True, kw_only=True)
class InitAnswer:
    """What ``init`` prints.

    Attributes:
        agent: Name and version, for the table.
        capabilities: Words of :class:`Capability`; unknown ones are ignored. Without ``tflite`` and ``onnx`` the
            agent is expected to take a bundle as running once all of it is verified.
    """

    agent: str
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """One model in what ``status`` prints.

    Attributes:
        model: Its name.
        phase: Where it stands, as in the reported state.
        active: Manifest digest of what serves, if anything does.
        refusal: Why the wanted variant is not what serves, if so.
    """

    model: str
    phase: Phase
    active: str | None = None
    refusal: RefusalCode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAnswer:
    """What ``status`` prints.

    Attributes:
        sequence: Sequence of the desired state that it follows; 0 for none.
        security_epoch: The lowest that it still accepts.
        models: What it runs.
    """

    sequence: int
    security_epoch: int
    models: tuple[ModelAnswer, ...] = ()
