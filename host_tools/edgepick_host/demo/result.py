"""What the demo found, as values: everything that its table, its report and its exit code are made of.

Times are seconds, sizes bytes, latencies nanoseconds, accuracies shares (0..1). ``None`` is "not measured",
never zero; where a reason is known, it stands beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepick_host.core.figures import EnergyKind
from edgepick_wire.enums import StrEnum

BASELINE = "float32"
"""Name of the recipe that leaves the model as it is."""


class Standing(StrEnum):
    """How a measured variant fared in the selection of its profile."""

    CHOSEN = "chosen"
    ELIGIBLE = "eligible"
    """Within every limit; another one was preferred."""
    EXCLUDED = "excluded"
    """Beyond a limit, or something about it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetDevice:
    """One agent of the demo's fleet, at the end.

    Attributes:
        device: Its id.
        profile: The kind of device.
        runtime: What really ran its model, with version and accelerator; empty if nothing did.
        fallback: Why it is not the runtime or accelerator that the profile prefers; empty if it is.
        stand_in: This machine stands in for the board.
        running: Label of the variant that serves; empty for none.
        phase: What the device says about it ("confirmed", ...).
        agent_rss_bytes: Resident memory of the agent process, without its runner.
    """

    device: str
    profile: str
    runtime: str
    fallback: str = ""
    stand_in: bool = True
    running: str
    phase: str
    agent_rss_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateResult:
    """One variant, measured on the devices of one profile.

    Attributes:
        label: Name of the variant.
        size_bytes: Model file.
        accuracy: On the evaluation set, on the host.
        accuracy_drop: Against the float model; negative if it is better.
        p50_ns: Median single-inference latency, median over the devices.
        p95_ns: 95th percentile likewise.
        peak_rss_bytes: Peak resident memory of the runner, worst device.
        arena_bytes: Exact tensor arena, where the runtime tells.
        energy_uj: Microjoules per inference.
        energy_kind: Whether they are net of idle power: the same for all variants of a profile.
        energy_reason: Why there is no energy.
        devices: How many devices measured it.
        on_front: No other eligible variant is at least as good in accuracy, latency and size together.
        standing: How it fared.
        reason: Why it was not chosen; empty for the chosen one.
    """

    label: str
    size_bytes: int
    accuracy: float | None
    accuracy_drop: float | None
    p50_ns: int | None
    p95_ns: int | None
    peak_rss_bytes: int | None = None
    arena_bytes: int | None = None
    energy_uj: float | None = None
    energy_kind: EnergyKind | None = None
    energy_reason: str = ""
    devices: int
    on_front: bool
    standing: Standing
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedCandidate:
    """A recipe that gave this profile no variant: at which gate it fell, and why."""

    recipe: str
    gate: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileResult:
    """The selection for one kind of device.

    Attributes:
        profile: Its name.
        title: For people.
        candidates: Measured variants, best first.
        rejected: What was never delivered, and why.
        chosen: Label of the chosen variant; ``None`` if none was.
        reasons: Sentences, the most important first.
        objective: What was minimised, as text.
        limits: Hard limits, each as text.
    """

    profile: str
    title: str
    candidates: tuple[CandidateResult, ...]
    rejected: tuple[RejectedCandidate, ...] = ()
    chosen: str | None
    reasons: tuple[str, ...]
    objective: str = ""
    limits: tuple[str, ...] = ()

    @property
    def winner(self) -> CandidateResult | None:
        """The chosen variant's figures."""
        return next((c for c in self.candidates if c.standing is Standing.CHOSEN), None)

    @property
    def speedup(self) -> float | None:
        """How many times as fast as float32 the winner is here, where both were measured."""
        baseline = next((c.p50_ns for c in self.candidates if c.label.startswith(BASELINE)), None)
        winner = self.winner
        if baseline is None or winner is None or not winner.p50_ns or winner.label.startswith(BASELINE):
            return None
        return baseline / winner.p50_ns

    @property
    def energy_reasons(self) -> tuple[str, ...]:
        """Why no candidate has an energy; empty if one has."""
        if any(c.energy_uj is not None for c in self.candidates):
            return ()
        return tuple(dict.fromkeys(c.energy_reason or "no reason was given" for c in self.candidates))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """The device that was killed in the middle of a download, as the link to it saw the chunks go by.

    Attributes:
        device: Which.
        chunks_total: Different chunks that it needed.
        chunks_before: Had passed whole when it was killed.
        chunks_after: Asked for after the restart.
        fetched_twice: Had passed before, and were asked for again.
        window: Chunks that may be in flight, or not yet on disk, at a kill.
        completed: It has everything, with the right digests.
    """

    device: str
    chunks_total: int
    chunks_before: int
    chunks_after: int
    fetched_twice: int
    window: int
    completed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What went over the broker.

    Attributes:
        variants: Variants published.
        bundle_bytes: Their bundles, added up.
        published_bytes: Payload that the publisher sent once, for all devices.
        chunks: Different chunks on the broker.
        chunk_bytes: Size of a chunk.
        fetched_bytes: Payload that the devices fetched, all together; ``None`` if unknown.
        resume: The device that was killed; ``None`` if that was left out.
    """

    variants: int
    bundle_bytes: int
    published_bytes: int
    chunks: int
    chunk_bytes: int
    fetched_bytes: int | None = None
    resume: Resume | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that was done wrong on purpose, and what became of it.

    Attributes:
        title: For people ("A variant that answers wrongly").
        done: What the demo did, one sentence.
        device: Where.
        caught: It was noticed, and did no harm.
        code: The device's code for it ("trial-failed", "bad-signature").
        detail: The device's own sentence.
        still_running: What the device ran before and after.
    """

    title: str
    done: str
    device: str
    caught: bool
    code: str
    detail: str
    still_running: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveDevice:
    """How a device came through its wave."""

    device: str
    variant: str
    outcome: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """One wave of the rollout: "canary", "wave 2", ...; ``at_seconds`` after the demo's start."""

    name: str
    at_seconds: float
    devices: tuple[WaveDevice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where the figures come from.

    Attributes:
        machine: The machine's processor.
        cores: Processors that the demo may use.
        system: Operating system.
        broker: Kind and address.
        versions: Of Python, edgepick and the libraries that matter.
    """

    machine: str
    cores: int
    system: str
    broker: str
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """Everything that the report shows.

    Attributes:
        model: Name of the model.
        version: Label that was rolled out.
        rollout: Id of the rollout, for `edgepick why`.
        float_bytes: The float model that it started from.
        float_accuracy: Its accuracy on the evaluation set.
        started: When, as text.
        seconds: How long the job took.
        notes: What was left out or replaced on this machine, one sentence each.
    """

    model: str
    version: str
    rollout: str
    float_bytes: int
    float_accuracy: float | None
    started: str
    seconds: float
    fleet: tuple[FleetDevice, ...]
    profiles: tuple[ProfileResult, ...]
    delivery: Delivery
    faults: tuple[Fault, ...]
    waves: tuple[Wave, ...]
    environment: Environment
    notes: tuple[str, ...] = ()


def problems(result: DemoResult) -> tuple[str, ...]:
    """Return what did not go as the demo promises, one sentence each; empty means that all is well."""
    found = [f"{p.profile}: no variant was chosen" for p in result.profiles if p.chosen is None]
    found += [f"{d.device}: {d.phase or 'silent'} instead of confirmed" for d in result.fleet if d.phase != "confirmed"]
    found += [f"{f.title}: it was not caught on {f.device}" for f in result.faults if not f.caught]
    resume = result.delivery.resume
    if resume and not resume.completed:
        found.append(f"{resume.device}: the download did not complete after the kill")
    if resume and resume.fetched_twice > resume.window:
        found.append(f"{resume.device}: {resume.fetched_twice} chunks were fetched twice, allowed are {resume.window}")
    return tuple(found)
