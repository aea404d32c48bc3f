"""What may happen to the two slots of a model; each function is one step of a record.

The idle slot always holds either nothing or a variant that served before, so going back needs no
download. A variant under trial is in no slot yet.
"""

from dataclasses import replace

from edgepick_agent.core.state import VERDICTS_KEPT, ModelRecord, Origin, Slot, SlotName, Verdict


def activate(record: ModelRecord, slot: Slot, origin: Origin) -> ModelRecord:
    """Return the record with ``slot`` active and not confirmed; what was active is the previous."""
    target = record.active.other if record.active else SlotName.A
    return replace(
        record,
        a=slot if target is SlotName.A else record.a if record.active else None,
        b=slot if target is SlotName.B else record.b if record.active else None,
        active=target,
        confirmed=False,
        pinned=False,
        origin=origin,
        verdicts=tuple(v for v in record.verdicts if (v.manifest, v.rollout) != (slot.manifest, origin.rollout)),
    )


def confirm(record: ModelRecord) -> ModelRecord:
    """Return the record with its active variant confirmed."""
    return replace(record, confirmed=True)


def fall_back(record: ModelRecord) -> ModelRecord:
    """Return the record with the previous variant active again, and the failed one in no slot.

    A pin then holds what serves again: it keeps the host's wishes off, not failures.
    """
    if record.active is None:
        return record
    back = record.active.other if record.previous else None
    return replace(
        record,
        a=record.a if record.active is SlotName.B else None,
        b=record.b if record.active is SlotName.A else None,
        active=back,
        confirmed=back is not None,
        pinned=False,
        held=record.held and back is not None,
        origin=Origin(),
    )


def roll_back(record: ModelRecord) -> ModelRecord:
    """Return the record with its two slots exchanged on a technician's order: pinned and confirmed."""
    if record.active is None or record.previous is None:
        return record
    return replace(record, active=record.active.other, confirmed=True, pinned=True, origin=Origin())


def drop(record: ModelRecord, manifest: str) -> ModelRecord:
    """Return the record without a variant whose files are damaged."""
    if record.current is not None and record.current.manifest == manifest:
        return fall_back(record)
    kept_a = record.a if record.a is not None and record.a.manifest != manifest else None
    kept_b = record.b if record.b is not None and record.b.manifest != manifest else None
    return replace(record, a=kept_a, b=kept_b)


def note(record: ModelRecord, verdict: Verdict) -> ModelRecord:
    """Return the record with a verdict noted; it replaces an earlier one on the same matter."""
    others = (v for v in record.verdicts if (v.manifest, v.rollout) != (verdict.manifest, verdict.rollout))
    return replace(record, verdicts=(*others, verdict)[-VERDICTS_KEPT:])
