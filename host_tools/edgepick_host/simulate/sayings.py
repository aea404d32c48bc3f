"""What a simulated device says, with the fields that the real agent fills. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from edgepick_host.simulate.figures import MACHINE, MIB, measured
from edgepick_host.simulate.scenario import Ailment, Identity
from edgepick_host.simulate.state import DeviceState, Known, Task
from edgepick_wire import codec
from edgepick_wire.manifest import ALGORITHMS, KNOWN_REQUIREMENTS
from edgepick_wire.messages import (
    Birth,
    Incident,
    IncidentCode,
    InstallOutcome,
    MeasuredVariant,
    ModelState,
    Outcome,
    Refusal,
    RefusalCode,
    Report,
    Reported,
    ReportKind,
    RuntimeAvailable,
)
from edgepick_wire.pairing import CAPABILITY

HINT = "This device is simulated; its scenario says so."
IMPOSSIBLE_NS = 1e-9


def birth(device: Identity, session: int) -> Birth:
    """Return who a device is."""
    kind = device.kind
    return Birth(
        device=device.name,
        session=session,
        profile=kind.profile,
        agent_version="simulated",
        machine=MACHINE,
        system="simulated",
        python="0",
        runtimes=(RuntimeAvailable(name=kind.runtime, version="0", accelerators=(kind.accelerator,)),),
        memory_bytes=1024 * MIB,
        disk_free_bytes=4096 * MIB,
        stand_in=True,
        capabilities=(*sorted(KNOWN_REQUIREMENTS | ALGORITHMS), *((CAPABILITY,) if kind.pairs else ())),
        labels={"simulated": "yes", "ailment": device.ailment.value if device.ailment else "none"},
    )


def reported(device: Identity, state: DeviceState) -> Reported:
    """Return what a device runs."""
    return Reported(
        device=device.name,
        session=state.session,
        sequence=state.holding.sequence if state.holding else 0,
        security_epoch=0,
        models=tuple(model for _, model in sorted(state.models.items())),
    )


def refusal(code: RefusalCode, detail: str) -> Refusal:
    """Return a "no"."""
    return Refusal(code=code, detail=detail, hint=HINT)


def measurement_report(device: Identity, state: DeviceState, task: Task, now: float) -> Report:
    """Return the report of an order that was carried out, or of a variant that does not run here."""
    order = task.order
    if order is None:
        raise ValueError("a defect of the simulator: an installation is no order to measure")
    variant = state.known[order.manifest].variant
    if device.falls_on(device.kind.behaviour(variant).refused, "refused", variant):
        answer: Mapping[str, Any] = {"measurement": None, "refusal": refusal(RefusalCode.NO_RUNTIME, "does not run")}
    else:
        size = state.known[order.manifest].size
        answer = {"measurement": measured(device, variant, order, _against(device, state, task), size)}
    return _report(
        device,
        state,
        now,
        ReportKind.MEASUREMENT,
        measurement=MeasuredVariant(request=order.id, model=task.model, manifest=order.manifest, **answer),
    )


def _against(device: Identity, state: DeviceState, task: Task) -> str | None:
    """Return the name of the variant to compare with, if the device can compare and has it installed."""
    pair = task.order.pair if task.order else None
    running = state.models.get(task.model)
    if pair is None or not device.kind.pairs or running is None or running.active != pair.against:
        return None
    known = state.known.get(pair.against)
    return known.variant if known else None


def install_report(
    device: Identity, state: DeviceState, task: Task, outcome: Outcome, *, why: Refusal | None, now: float
) -> Report:
    """Return how an installation ended."""
    known = state.known.get(task.manifest, Known(variant="", size=0, chunks=0))
    running = state.models.get(task.model)
    fetched = outcome is not Outcome.REFUSED
    return _report(
        device,
        state,
        now,
        ReportKind.INSTALL,
        install=InstallOutcome(
            model=task.model,
            manifest=task.manifest,
            outcome=outcome,
            sequence=task.sequence,
            rollout=task.rollout,
            active=running.active if running else None,
            refusal=why,
            chunks_fetched=known.chunks if fetched else 0,
            bytes_fetched=known.size if fetched else 0,
            seconds=round(now - task.began, 3),
        ),
    )


def fell_back(device: Identity, state: DeviceState, model: ModelState, now: float) -> Report:
    """Return the incident of a variant that crashed until the device gave it up."""
    incident = Incident(
        code=IncidentCode.FELL_BACK,
        detail="crashed 3 times",
        model=model.model,
        manifest=model.active,
        count=3,
    )
    return _report(device, state, now, ReportKind.INCIDENT, incident=incident)


def flood(device: Identity, state: DeviceState, number: int, now: float) -> Report:
    """Return one of the many incidents of a device that floods."""
    incident = Incident(code=IncidentCode.RUNNER_RESTARTED, detail=f"flood {number}")
    return _report(device, replace(state, counter=number), now, ReportKind.INCIDENT, incident=incident)


def _report(device: Identity, state: DeviceState, now: float, kind: ReportKind, **part: Any) -> Report:
    name = f"{state.session:06d}-{state.counter:06d}-{kind}-{device.number:05d}"
    return Report(id=name, device=device.name, session=state.session, recorded_at=now, kind=kind, **part)


def told(device: Identity, report: Report) -> bytes:
    """Return a report as this device sends it: most send what is true."""
    lie = _LIES.get(device.ailment) if device.ailment and report.measurement else None
    if lie is None:
        return codec.encode(report)
    document = codec.plain(report)
    measurement = document["measurement"]["measurement"]
    if measurement is not None:
        lie(measurement)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _nan(measurement: dict[str, Any]) -> None:
    measurement["throughput_per_s"] = float("nan")


def _negative(measurement: dict[str, Any]) -> None:
    measurement["memory"]["peak_rss_bytes"] = -MIB
    for name in ("mean_ns", "p50_ns", "p95_ns"):
        measurement["latency"][name] = -1


def _impossible(measurement: dict[str, Any]) -> None:
    measurement["latency"] |= {"mean_ns": 0, "p50_ns": 0, "p95_ns": 0}
    for quad in (measurement["paired"] or {}).get("quads", ()):
        middle = quad["order"] == "abba"
        for block in (1, 2) if middle else (0, 3):
            quad["latency_ns"][block] = IMPOSSIBLE_NS


_LIES: Mapping[Ailment, Callable[[dict[str, Any]], None]] = {
    Ailment.NAN: _nan,
    Ailment.NEGATIVE: _negative,
    Ailment.IMPOSSIBLE: _impossible,
}
