"""A variant that a technician pins: it stays until it is unpinned, whatever the host wants.

Weaker is what `rollback` and `install` leave behind (``ModelRecord.pinned``), which the host's next
wish ends. Measuring goes on either way: it changes nothing of what runs.
"""

from dataclasses import replace

from edgepick_agent.core import serving
from edgepick_agent.core.effects import Say
from edgepick_agent.core.endings import answer, close_job
from edgepick_agent.core.planning import forgive
from edgepick_agent.core.standing import held_refusal
from edgepick_agent.core.state import ModelRecord, Slot
from edgepick_agent.core.turn import JobKind, Turn
from edgepick_wire.messages import Refusal, RefusalCode


def pin(turn: Turn, model: str, slot: Slot) -> Refusal | None:
    """Have a model stay on the variant in ``slot``, activated first if it is the previous; return why not, if not."""
    if turn.agent.durable.model(model).current != slot and (refusal := serving.roll_back(turn, model)) is not None:
        return refusal
    turn.set_record(model, replace(turn.agent.durable.model(model), held=True))
    _drop_installation(turn, model, held_refusal(model, slot))
    turn.do(Say(f"{model}: a technician pinned {slot.label}"))
    return None


def unpin(turn: Turn, model: str) -> None:
    """Have the host's wish count again, also where a technician went back or installed from a file."""
    record = turn.agent.durable.model(model)
    if not (record.held or record.pinned):
        return
    verdicts = tuple(v for v in record.verdicts if v.refusal.code is not RefusalCode.PINNED)
    turn.set_record(model, replace(record, held=False, pinned=False, verdicts=verdicts))
    forgive(turn)
    turn.do(Say(f"{model}: a technician unpinned it; the host's wish counts again"))


def kept_out(record: ModelRecord, model: str) -> Refusal | None:
    """Return why a technician's own order may not replace what serves, if it is pinned."""
    return held_refusal(model, record.current) if record.held and record.current is not None else None


def _drop_installation(turn: Turn, model: str, refusal: Refusal) -> None:
    job = turn.agent.job
    if job is not None and job.model == model and job.kind is JobKind.INSTALL:
        answer(turn, job.manifest, refusal)
        close_job(turn)
