"""What the agent tells a runner process, and what it gets back; both as JSON files."""

import signal
from dataclasses import dataclass

from edgepick_agent.core.passes import Passes
from edgepick_agent.core.settings import BrokerSettings, PowerSettings, Sandbox
from edgepick_wire.enums import StrEnum
from edgepick_wire.manifest import ModelFormat, RunLimits, RuntimeChoice
from edgepick_wire.messages import RuntimeAvailable
from edgepick_wire.metrics import Measurement, MeasurePlan
from edgepick_wire.pairing import PairOrder
from edgepick_wire.shadow import ShadowRequest, ShadowSummary

RETIRE, LEAVE, FRONT = signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2
"""What the agent tells a serving runner: answer whoever is connected, and end; leave your model's port; take it.

Linux hands over the lowest number first: a runner that could not listen for a while retires whatever else it was told,
and has the port after a fall-back.
"""

SANDBOX_GAPS = "sandbox-gaps.txt"
"""File beside the result: in which way a runner is not shut in."""
SHADOW_FILE = "shadow.json"
"""File beside the result: the :class:`ShadowProgress` of a shadow."""


class RunnerMode(StrEnum):
    """What a runner process does."""

    MEASURE = "measure"
    """Load, answer the golden inputs, measure, write the result, exit."""
    SERVE = "serve"
    """Load, then answer inference requests on the socket until told to stop."""
    SHADOW = "shadow"
    """Load, then answer copies of what another runner answers, compare, and exit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenFile:
    """The self-test as a file: see :class:`edgepick_wire.manifest.GoldenSpec`."""

    path: str
    min_agreement: float
    max_mean_abs_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeLimits:
    """What ``serve`` takes on.

    Attributes:
        concurrency: Copies of the model; each answers one request at a time.
        queue: Requests that may wait for one; a further one is refused with 503.
        queue_seconds: Longest wait.
        request_bytes: Longest body of a request; ``None`` for what the model's inputs can need.
    """

    concurrency: int = 1
    queue: int = 32
    queue_seconds: float = 10.0
    request_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What runs on the device, to be measured beside the spec's model in quads.

    Attributes:
        device: Whose coin it is.
        pair: How many quads, and under which key.
    """

    model_path: str
    format: ModelFormat
    runtimes: tuple[RuntimeChoice, ...]
    device: str
    pair: PairOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowOrder:
    """Whom a runner shadows.

    Attributes:
        tap: Socket on which the serving runner hands out copies; the launcher connects to it.
        against: Manifest that serves there.
        seed: What the drawing of requests starts from.
    """

    tap: str
    against: str
    seed: str
    request: ShadowRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowProgress:
    """What a shadow has seen so far; ``detail`` says why it ended, if that was before its time."""

    done: bool
    detail: str
    summary: ShadowSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSpec:
    """One model to run.

    Attributes:
        model: Name under which it is served.
        version: Label for people.
        model_path: The model file.
        runtimes: Ways to run it; the first installed one is taken.
        golden: The self-test; in ``serve`` it gates readiness.
        plan: How to measure.
        passes: What else to find out in ``measure``.
        beside: A second model to compare with in ``measure``, once everything else is done.
        serve_limits: What ``serve`` takes on.
        sensors: Names of sensor adapters to try, in order.
        power: The device's external meter, and its typical watts.
        broker: Where a meter's topic is; for the launcher only, which keeps it from the runner.
        meter_fd: The inherited pipe that brings the external meter's values.
        sandbox: How far it shuts itself in before it touches the model.
        sysfs_root: "/" on a board, a recorded tree in tests.
        stand_in: The machine is not the board that the profile names.
        result_path: Where ``measure`` writes its :class:`RunnerResult`.
        socket_path: Where ``serve`` listens.
        health_path: Where a runner answers the agent's health checks, apart from its clients: however many of them are
            connected, they cannot keep the agent out. ``None`` when a person starts it.
        tcp_port: ``serve`` listens on this loopback port too; ``None`` for the socket only.
        tcp_fd: The inherited socket that listens there, which the runner takes when told so; ``None`` when a person
            starts the runner, which then binds the port itself.
        tap_path: Where ``serve`` hands out copies of requests; ``None`` for nowhere.
        shadow: Whom to shadow.
        tap_fd: The inherited connection to whom is shadowed.
        parent_pid: The process that the runner must not outlive; ``None`` when a person starts it.
    """

    model: str
    version: str = ""
    model_path: str
    format: ModelFormat
    runtimes: tuple[RuntimeChoice, ...]
    golden: GoldenFile | None = None
    plan: MeasurePlan = MeasurePlan()
    passes: Passes = Passes()
    beside: Beside | None = None
    limits: RunLimits = RunLimits()
    serve_limits: ServeLimits = ServeLimits()
    sensors: tuple[str, ...] = ()
    power: PowerSettings = PowerSettings()
    broker: BrokerSettings | None = None
    meter_fd: int | None = None
    sandbox: Sandbox = Sandbox.OFF
    sysfs_root: str = "/"
    stand_in: bool = False
    result_path: str | None = None
    socket_path: str | None = None
    health_path: str | None = None
    tcp_port: int | None = None
    tcp_fd: int | None = None
    tap_path: str | None = None
    shadow: ShadowOrder | None = None
    tap_fd: int | None = None
    parent_pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerFailure:
    """Why there is no measurement: a stable code of ``edgepick_agent.errors`` and a sentence."""

    code: str
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerResult:
    """What a ``measure`` run found: exactly one of the two; what further passes found is in files beside it."""

    measurement: Measurement | None = None
    failure: RunnerFailure | None = None


def measure_deadline_seconds(spec: RunnerSpec) -> float:
    """Return after how long a ``measure`` run must have ended, in seconds.

    Loading, then warm-up, timed runs and the energy pass with its two idle windows, each of which
    the plan bounds, as it does each further pass; then room for the golden inputs and for one
    inference that takes its limit.
    """
    windows = 4 + sum((spec.passes.rate_per_s is not None, spec.passes.operators, spec.passes.trace))
    if spec.beside is not None:
        # Warming up what they compare with, the quads, their energy, and a last quad begun just before its end.
        windows += 4
    return spec.limits.start_seconds + windows * spec.plan.max_seconds + 2 * spec.limits.inference_seconds + 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimesMemo:
    """What an interpreter could start when it was last asked."""

    interpreter: str
    runtimes: tuple[RuntimeAvailable, ...]


class RunnerState(StrEnum):
    """What a runner process looks like from outside."""

    STARTING = "starting"
    READY = "ready"
    """It serves (mode ``serve``) or works (mode ``measure``)."""
    HUNG = "hung"
    """Alive, but did not start, answer its health check, or finish an inference in time."""
    OVER_MEMORY = "over-memory"
    BAD_ANSWERS = "bad-answers"
    """It answers, but its answers have been bad too often in a row; see :mod:`edgepick_agent.core.answers`."""
    EXITED = "exited"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerObservation:
    """A look at a runner process.

    Attributes:
        rss_bytes: Its resident set now; ``None`` once it is gone.
        exit_code: As ``Popen.returncode``; negative for a signal.
        detail: One sentence for a person, e.g. the last line on its standard error.
        any_good: A client has had a good answer from it.
    """

    state: RunnerState
    rss_bytes: int | None = None
    exit_code: int | None = None
    detail: str = ""
    any_good: bool = False
