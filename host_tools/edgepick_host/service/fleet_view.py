"""What a person wants to see of a fleet, put together from the store; nothing here changes anything."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from edgepick_host.core.decision import CandidateResult, DecisionRecord, parse_record
from edgepick_host.core.objective import Metric
from edgepick_host.core.pareto import pareto_front
from edgepick_host.core.records import Device, DevicePage, DeviceQuery, ModelCount, ProfileCount, Release
from edgepick_host.core.rollout_state import RolloutState, Stage
from edgepick_host.errors import StateError
from edgepick_host.ports import Store
from edgepick_host.service.requests import lease_holder, load_heads
from edgepick_host.service.rollout_rows import rollouts_of, tally
from edgepick_wire.messages import Report

NEWEST_REPORTS = 200
"""Of a device, shown at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutLine:
    """A rollout in one line.

    Attributes:
        reached: Devices that were offered the winner so far.
    """

    id: str
    model: str
    version: str
    stage: Stage
    wave: int
    waves: int
    started_at: float
    reason: str
    devices: int
    reached: int
    confirmed: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """The fleet on one page.

    Attributes:
        coordinator: The service that decides and rolls out; ``None`` if there is none at work.
        rollouts: Those that have not ended, and the newest that have.
    """

    fleet: str
    coordinator: str | None
    profiles: tuple[ProfileCount, ...]
    models: tuple[ModelCount, ...]
    rollouts: tuple[RolloutLine, ...]
    reports: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStory:
    """A device, what it told last, and which rollouts touched it."""

    device: Device
    reports: tuple[Report, ...]
    rollouts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """A variant as a kind of device measured it; ``None`` where nobody did.

    Attributes:
        latency_ns: Median over the devices.
        error: 1 - accuracy, or the mean error against the float model.
        on_front: Everything is known of it, and no other variant is at least as good in all of it.
        active: Devices that run it.
    """

    label: str
    manifest: str
    latency_ns: float | None
    memory_bytes: float | None
    size_bytes: float | None
    error: float | None
    on_front: bool
    active: int
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The variants of a model on a kind of device, from the newest decision about it."""

    model: str
    stratum: str
    decision: str
    decided_at: float
    points: tuple[FrontPoint, ...]


def glance(store: Store, fleet: str, *, now: float, ended: int = 5) -> Glance:
    """Return the fleet on one page, with the ``ended`` newest rollouts that have ended."""
    lines = [rollout_line(head) for head in reversed(load_heads(store))]
    running = [line for line in lines if not line.stage.terminal]
    return Glance(
        fleet=fleet,
        coordinator=lease_holder(store, now=now),
        profiles=tuple(store.profile_counts()),
        models=tuple(store.model_counts()),
        rollouts=(*running, *[line for line in lines if line.stage.terminal][:ended]),
        reports=store.report_count(),
    )


def rollout_line(state: RolloutState) -> RolloutLine:
    """Return a rollout in one line."""
    found = tally(state)
    return RolloutLine(
        id=state.id,
        model=state.model,
        version=state.plan.version,
        stage=state.stage,
        wave=state.wave,
        waves=state.waves,
        started_at=state.started_at,
        reason=state.reason,
        devices=found.devices,
        reached=found.reached,
        confirmed=found.confirmed,
        failed=found.failed,
    )


def devices(store: Store, query: DeviceQuery) -> DevicePage:
    """Return a page of devices."""
    return store.device_page(query)


def device_story(store: Store, name: str) -> DeviceStory:
    """Return everything that is known of a device.

    Raises:
        StateError: Nothing was ever heard of it.
    """
    found = store.device(name)
    if found is None:
        raise StateError(f"no device {name!r} was ever heard of", hint="Names are those of `edgepick devices list`.")
    kept, heads = rollouts_of(store, name), load_heads(store)
    touched = [h.id for h in heads if h.id in kept or any(m.device == name and m.touched for m in h.members)]
    reports = store.reports(device=name, newest=NEWEST_REPORTS)
    return DeviceStory(device=found, reports=tuple(reports), rollouts=tuple(touched))


def decisions(store: Store, model: str | None = None) -> tuple[DecisionRecord, ...]:
    """Return the decisions, newest first."""
    return tuple(parse_record(document) for _, document in reversed(store.decisions(model)))


def fronts(store: Store, model: str) -> tuple[Front, ...]:
    """Return the newest front of each kind of device that was decided about.

    Raises:
        StateError: No variant of the model was ever published.
    """
    releases = store.releases(model)
    if not releases:
        raise StateError(f"no variant of model {model!r} was ever published", hint="`edgepick publish` publishes them.")
    newest: dict[str, DecisionRecord] = {}
    for record in decisions(store, model):
        if record.decision.candidates:
            newest.setdefault(record.decision.stratum.label, record)
    counts = store.model_counts()
    return tuple(_front(record, releases, counts) for _, record in sorted(newest.items()))


def _front(record: DecisionRecord, releases: Iterable[Release], counts: Iterable[ModelCount]) -> Front:
    decision = record.decision
    sizes = {release.manifest: float(release.size_bytes) for release in releases}
    running: Counter[str | None] = Counter()
    for count in counts:
        if (count.model, count.profile) == (decision.model, decision.stratum.profile):
            running[count.active_label] += count.devices
    points = [
        _point(result, sizes.get(result.manifest), running[result.label], wins=result.manifest == decision.winner)
        for result in decision.candidates
    ]
    return Front(
        model=decision.model,
        stratum=decision.stratum.label,
        decision=record.id,
        decided_at=record.decided_at,
        points=tuple(_with_front(points)),
    )


def _point(result: CandidateResult, size: float | None, active: int, *, wins: bool) -> FrontPoint:
    known = {figure.metric: figure.value for figure in result.figures}
    return FrontPoint(
        label=result.label,
        manifest=result.manifest,
        latency_ns=known.get(Metric.LATENCY),
        memory_bytes=known.get(Metric.MEMORY),
        size_bytes=known.get(Metric.SIZE, size),
        error=known.get(Metric.ERROR),
        on_front=False,
        active=active,
        verdict="wins" if wins else result.reason,
    )


def _with_front(points: Sequence[FrontPoint]) -> Iterator[FrontPoint]:
    """Yield the points, those marked that no other beats; what was not measured beats nothing."""
    figures = [(p.latency_ns, p.memory_bytes, p.size_bytes, p.error) for p in points]
    best = pareto_front([[math.inf if value is None else value for value in each] for each in figures])
    for number, point in enumerate(points):
        yield replace(point, on_front=number in best and None not in figures[number])
