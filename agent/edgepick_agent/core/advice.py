"""What a technician should do next, from what the agent says about itself. Pure."""

from collections.abc import Iterator

from edgepick_agent.core.control import AgentStatus
from edgepick_wire.messages import ModelState, Phase

CONNECTED = "connected"
LITTLE_SPACE_BYTES = 64 * 1024**2
NOTHING = "nothing: all is well"


def advise(status: AgentStatus) -> tuple[str, ...]:
    """Return what to do, most urgent first; never empty."""
    return tuple(_advice(status)) or (NOTHING,)


def _advice(status: AgentStatus) -> Iterator[str]:
    if not status.running:
        yield "start the agent: sudo systemctl start edgepick-agent"
    elif status.broker != CONNECTED:
        yield "edgepick-agent doctor shows where the way to the broker ends"
    # Zero is a full disk, but for an agent at rest that has no state directory yet.
    if status.disk_free_bytes < LITTLE_SPACE_BYTES and (status.running or status.disk_free_bytes):
        yield "make room on the disk: du -xh / | sort -h | tail -20"
    for model in status.models:
        yield from _about(model, held=model.model in status.held)
    if status.running and status.broker == CONNECTED and not status.models:
        yield "nothing is assigned to it yet: wait for the host, or install a FILE"


def _about(model: ModelState, *, held: bool) -> Iterator[str]:
    if held:
        yield f"{model.model}: pinned here, whatever the host wants; to end that: edgepick-agent unpin {model.model}"
    elif model.refusal and model.phase in {Phase.REFUSED, Phase.REVERTED}:
        yield f"{model.model}: {model.refusal.hint}"
    elif model.phase is Phase.EMPTY:
        yield f"{model.model}: nothing is installed; wait for the host, or edgepick-agent install FILE"
    if model.pinned and not held:
        yield f"{model.model}: its variant was chosen here; it stays until the host starts another rollout"
