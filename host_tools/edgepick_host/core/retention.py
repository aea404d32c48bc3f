"""Which reports are still needed, however old they are; what is not may be deleted once it is old. Pure.

- Everything about a model whose rollout has not ended.
- What the decisions that hold rest on: for each stratum the newest one, and the newest that chose what a device runs.
- Measurements of variants that some device runs, could return to, or was told to run.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgepick_host.core.decision import DecisionRecord
from edgepick_host.core.records import Device
from edgepick_host.core.rollout_state import RolloutState
from edgepick_wire.messages import Desired, Report

DAY_SECONDS = 86_400.0
LEAST_SECONDS = DAY_SECONDS
"""Reports are kept so long at least: by then every service has read them, and every device has its acknowledgement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What keeps a report.

    Attributes:
        models: Everything about these.
        named: Device and id of reports that a decision rests on.
        manifests: Measurements of these.
    """

    models: frozenset[str] = frozenset()
    named: frozenset[tuple[str, str]] = frozenset()
    manifests: frozenset[str] = frozenset()

    def keeps(self, report: Report) -> bool:
        """Return whether a report is needed."""
        part = report.measurement or report.install or report.incident or report.shadow
        if part is not None and part.model in self.models:
            return True
        if report.measurement is not None and report.measurement.manifest in self.manifests:
            return True
        return (report.device, report.id) in self.named


def needed(
    *,
    rollouts: Iterable[RolloutState],
    records: Sequence[DecisionRecord],
    devices: Iterable[Device],
    desired: Iterable[Desired],
) -> Needed:
    """Return what is needed by what the host knows now."""
    manifests = in_use(devices, desired)
    return Needed(
        models=unended(rollouts),
        named=frozenset(name for record in holding(records, manifests) for name in reports_of(record)),
        manifests=manifests,
    )


def unended(rollouts: Iterable[RolloutState]) -> frozenset[str]:
    """Return the models of rollouts that have not ended, or whose end is not published yet."""
    return frozenset(r.model for r in rollouts if not (r.stage.terminal and r.settled))


def in_use(devices: Iterable[Device], desired: Iterable[Desired]) -> frozenset[str]:
    """Return the manifests that some device has in a slot, or was told to run."""
    states = (state for device in devices if device.reported for state in device.reported.models)
    slots = {manifest for state in states for manifest in (state.active, state.previous, state.wanted)}
    told = {assignment.active for each in desired for assignment in each.models}
    return frozenset(manifest for manifest in slots | told if manifest is not None)


def holding(records: Iterable[DecisionRecord], manifests: frozenset[str]) -> tuple[DecisionRecord, ...]:
    """Return the decisions that hold, of records from the oldest to the newest."""
    newest: dict[tuple[object, ...], DecisionRecord] = {}
    for record in records:
        decision = record.decision
        about = (decision.model, dataclasses.replace(decision.stratum, devices=()))
        newest[about] = record
        if decision.winner in manifests:
            newest[(*about, decision.winner)] = record
    return tuple({record.id: record for record in newest.values()}.values())


def reports_of(record: DecisionRecord) -> tuple[tuple[str, str], ...]:
    """Return device and id of every report that a decision rests on."""
    question = record.decision.question
    return () if question is None else tuple((d, name) for d, ids in question.reports.items() for name in ids)
