"""Every effect of the agent: what the core may ask of the world, and who may provide it.

A port is for an effect; a policy is a function. Adapters are picked in ``app.py`` and ``instruments.py`` only.
Each port has one suite of promises in ``tests/contracts``, which every adapter and its fake must pass.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from edgepick_agent.core.board_state import BoardReading
from edgepick_agent.core.runner_spec import (
    RunnerMode,
    RunnerObservation,
    RunnerResult,
    RunnerSpec,
    RunnerState,
    ShadowProgress,
)
from edgepick_wire.enums import StrEnum
from edgepick_wire.manifest import RuntimeChoice
from edgepick_wire.messages import RuntimeAvailable
from edgepick_wire.metrics import RuntimeUsed

__all__ = [
    "BundleReader",
    "Clock",
    "Discover",
    "PowerSensor",
    "RangeSource",
    "RunnerLauncher",
    "RunnerMode",
    "RunnerObservation",
    "RunnerProcess",
    "RunnerResult",
    "RunnerSpec",
    "RunnerState",
    "Runtime",
    "SensorKind",
    "Session",
    "Storage",
    "TakeChunk",
    "TensorSpec",
    "Transport",
]

if TYPE_CHECKING:
    # Runner processes import this module, and need nothing of how the agent decides.
    import numpy as np

    from edgepick_agent.core.effects import FetchRange
    from edgepick_agent.core.fetch import Chunk

    Array = np.ndarray[Any, np.dtype[Any]]


class Clock(Protocol):
    """Time; the core is given it as a value."""

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        ...

    def now(self) -> float:
        """Return seconds since the epoch, for people."""
        ...


class RangeSource(Protocol):
    """Fetches ranges by HTTPS, one at a time; what comes is handed to the loop as events."""

    def begin(self, asked: "FetchRange") -> None:
        """Begin to fetch; returns at once."""
        ...

    def cancel(self) -> None:
        """Stop what is under way; events of it may still come."""
        ...

    def close(self) -> None:
        """Stop, and keep no connection; it is not used again."""
        ...


class Storage(Protocol):
    """Files below the state directory, by relative POSIX name; the only writer on the device.

    Every method that changes something is one storage operation of the power-cut tests.
    Raises ``StorageFullError`` on ENOSPC/EDQUOT and ``StorageError`` on any other ``OSError``.
    """

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or ``None`` if there is none."""
        ...

    def read_at(self, name: str, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes at ``offset``; empty if there is no such file."""
        ...

    def size(self, name: str) -> int | None:
        """Return a file's length in bytes, or ``None`` if there is none."""
        ...

    def names(self, folder: str) -> Sequence[str]:
        """Return the names directly in ``folder``, sorted; empty if there is none."""
        ...

    def free_bytes(self) -> int:
        """Return the space left for this user."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Replace a file atomically and durably: temporary file, fsync, rename, folder fsync."""
        ...

    def reserve(self, name: str, size: int) -> None:
        """Make a file of ``size`` bytes exist with its blocks allocated; keep what is in it."""
        ...

    def write_at(self, name: str, offset: int, data: bytes | memoryview) -> None:
        """Write into a reserved file, not yet durably; any thread."""
        ...

    def sync(self, name: str) -> None:
        """Make what was written into a reserved file durable."""
        ...

    def link(self, source: str, target: str) -> None:
        """Give a file a second name durably, or copy it where the file system has no links."""
        ...

    def move(self, source: str, target: str) -> None:
        """Rename durably; an existing target file is replaced."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file or a whole folder; nothing happens if it is not there."""
        ...

    def path(self, name: str) -> Path:
        """Return where the file is, for a process that only reads it."""
        ...


class BundleReader(Protocol):
    """A bundle that came as a file; raises ``RefusedError`` for anything that is not one."""

    def manifest(self, path: str) -> bytes:
        """Return the signed manifest, not yet verified."""
        ...

    def roots(self, path: str) -> tuple[bytes, ...]:
        """Return the versions of the fleet's root document that it carries, oldest first, none verified."""
        ...

    def files(self, path: str) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        """Yield name, size and content in pieces of each file."""
        ...


class UndecodedError(Exception):
    """An encoded form could not be decoded; the file is to be had in another way."""


class Decode(Protocol):
    """Decodes without trust: memory is bounded, and what comes out still has to be compared with its digest."""

    def __call__(self, algorithm: str, size: int, encoded: Path, base: Path | None) -> Iterator[bytes]:
        """Yield the content of a file of ``size`` bytes in pieces.

        Raises:
            UndecodedError: The input is not what it should be, or the decoder died.
        """
        ...


TakeChunk = Callable[[str, "bytes | memoryview"], "Chunk | None"]
"""Given the digest that a chunk was sent under and its bytes: keeps them and says what they were, if anybody waits."""


class Transport(Protocol):
    """The broker: bytes and topics, reconnecting by itself with jittered backoff.

    Connection changes and deliveries are handed to the sink given at construction, chunks to the
    :data:`TakeChunk`, from the transport's own thread.
    """

    def start(self) -> None:
        """Begin to connect, and keep at it until :meth:`stop`."""
        ...

    def subscribe(self, topics: Iterable[tuple[str, int]]) -> None:
        """Subscribe to ``(topic, qos)`` pairs, at most eight per packet."""
        ...

    def unsubscribe(self, topics: Iterable[str]) -> None:
        """Unsubscribe, at most eight per packet."""
        ...

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Hand a message to the broker; while offline it is dropped (the outbox keeps its own)."""
        ...

    def stop(self, farewell: tuple[str, bytes] | None = None) -> None:
        """Publish ``farewell`` retained if there is one, disconnect, and stop reconnecting."""
        ...


class RunnerProcess(Protocol):
    """One runner, seen from the agent. It never outlives the agent."""

    @property
    def pid(self) -> int:
        """Process id."""
        ...

    def observe(self) -> RunnerObservation:
        """Return what it looks like now; takes at most some milliseconds."""
        ...

    def result(self) -> RunnerResult | None:
        """Return what a ``measure`` run wrote, once it has ended; ``None`` if it wrote nothing."""
        ...

    def shadow(self) -> ShadowProgress | None:
        """Return what a shadow has seen so far; ``None`` before it compares, and of any other runner."""
        ...

    def front(self) -> None:
        """Have a serving runner take requests from its model's port; without one, nothing happens."""
        ...

    def leave_port(self) -> None:
        """Have a serving runner leave further clients of its model's port to another, and serve on those it has."""
        ...

    def retire(self) -> None:
        """Have a serving runner answer whoever is connected, and end by itself; returns at once."""
        ...

    def stop(self, *, grace_seconds: float = 2.0) -> None:
        """End it: SIGTERM, then SIGKILL after the grace; returns when it is gone."""
        ...


class RunnerLauncher(Protocol):
    """Starts runner processes."""

    def start(self, spec: RunnerSpec, mode: RunnerMode) -> RunnerProcess:
        """Start one; returns at once."""
        ...

    def close_port(self, model: str) -> None:
        """Refuse further connections to the port that runners of ``model`` took in turn."""
        ...

    def close(self) -> None:
        """Refuse further connections to every port."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One model input or output, as the session takes and gives it.

    Attributes:
        shape: Sizes; -1 for a dimension that may vary.
        dtype: numpy name of the type in the model file ("float32", "int8", ...).
        scale: Quantization scale, 0.0 if not quantized.
        zero_point: Quantization zero point.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0


class Session(Protocol):
    """A loaded model, ready to run.

    Attributes:
        inputs: In the model's order.
        outputs: In the model's order.
        used: What executes it.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    used: RuntimeUsed

    @property
    def arena_bytes(self) -> int | None:
        """Exact tensor arena, where the runtime tells; may load the model some more times to find out."""
        ...

    def run(self, feeds: Mapping[str, "Array"]) -> list["Array"]:
        """Run one inference on arrays of exactly the inputs' types; returns raw outputs.

        Raises:
            InputError: A name, shape or dtype that the model does not take.
            InferenceError: The runtime failed.
        """
        ...

    def close(self) -> None:
        """Free it."""
        ...


class Runtime(Protocol):
    """Something that can execute a model file."""

    def available(self) -> RuntimeAvailable | None:
        """Return name, version and accelerators, or ``None`` if it is not installed."""
        ...

    def load(self, model: Path, choice: RuntimeChoice) -> Session:
        """Return the model, loaded with the first accelerator of ``choice`` that works.

        Raises:
            RuntimeMissingError: The runtime is not installed; the hint names the pip line.
            ModelLoadError: Not a model, or one that this runtime cannot run.
            AcceleratorError: No accelerator of the choice works, and "cpu" is not among them.
        """
        ...


class SensorKind(StrEnum):
    """How a power sensor answers; the two are never mixed."""

    ENERGY = "energy"
    """A counter in microjoules, made monotonic by the adapter."""
    POWER = "power"
    """An instantaneous power in microwatts, to be sampled and integrated."""


class PowerSensor(Protocol):
    """Something that can tell energy or power.

    Attributes:
        source: E.g. "powercap-rapl:package-0".
        scope: What it covers: "package", "module", "rails", "battery", "board".
        kind: Counter or power.
        period_seconds: Time between two fresh values.
    """

    source: str
    scope: str
    kind: SensorKind
    period_seconds: float

    def read(self) -> float | None:
        """Return microjoules or microwatts; ``None`` for a failed read, never zero for one."""
        ...


Discover = Callable[[Path], Sequence[PowerSensor]]
"""``sysfs root -> the sensors found there``, in order of preference."""


class LogFiles(Protocol):
    """The agent's log where no journal collects it; bounded, and no error of the disk comes through."""

    def append(self, line: str) -> None:
        """Add a line, unless the disk refuses it."""
        ...

    def read(self) -> list[str]:
        """Return every line, oldest first."""
        ...

    def follow(self) -> Iterator[str]:
        """Yield the lines that are added after those that were read, for ever."""
        ...


class Unusable(NamedTuple):
    """Why a sensor that is there cannot be used; ``mend`` is empty where nothing is to be done about it."""

    reason: str
    mend: str = ""

    def __str__(self) -> str:
        """Return both on one line."""
        return f"{self.reason} ({self.mend})" if self.mend else self.reason


WhyNot = Callable[[Path], Unusable | None]
"""``sysfs root -> why a sensor that is there cannot be used``; ``None`` if there is none of the kind."""


class Board(Protocol):
    """The machine itself, as its kernel and firmware describe it."""

    def machine(self) -> str:
        """Return what the machine really is: its device-tree model or its CPU."""
        ...

    def memory_bytes(self) -> int | None:
        """Return the physical memory."""
        ...

    def read(self) -> BoardReading:
        """Return temperature, clock, throttling and load as they are now."""
        ...

    def glance(self) -> BoardReading:
        """Return temperature, clock and what holds it down now, and nothing else, in well under a millisecond."""
        ...
