"""What can be known without the state file: from whole bundles in the store, and nothing else."""

from collections.abc import Mapping

from edgepick_agent.core.admission import label_of
from edgepick_agent.core.state import AgentState, ModelRecord, Slot, SlotName
from edgepick_wire.manifest import Manifest


def state_from_store(bundles: Mapping[str, Manifest]) -> AgentState:
    """Return a state in which every model's newest-looking bundle is active, but not confirmed.

    Which variant was active is lost; the one with the highest security epoch cannot be a step
    back, and the desired state puts the rest right. The sequences seen are lost too: until the host
    speaks, an old desired state could be replayed.
    """
    models: dict[str, ModelRecord] = {}
    ordered = sorted(bundles.items(), key=lambda item: (item[1].security_epoch, item[1].version, item[0]), reverse=True)
    for digest, content in ordered:
        slot = Slot(manifest=digest, label=label_of(content), security_epoch=content.security_epoch)
        record = models.get(content.model)
        if record is None:
            models[content.model] = ModelRecord(a=slot, active=SlotName.A)
        elif record.b is None:
            models[content.model] = ModelRecord(a=record.a, b=slot, active=SlotName.A)
    return AgentState(models=models)
