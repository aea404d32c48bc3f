"""What a technician should do next, from what the agent says about itself. Pure."""

from collections.abc import Iterator, Sequence

from edgepick_agent.core.broker_mends import broker_mend
from edgepick_agent.core.control import WAITING, AgentStatus, RunnerStatus
from edgepick_agent.core.findings import Finding, Level
from edgepick_wire.messages import ModelState, Phase

CONNECTED = "connected"
LITTLE_SPACE_BYTES = 64 * 1024**2
NOTHING = "nothing: all is well"
START = "start the agent: sudo systemctl start edgepick-agent"


def advise(status: AgentStatus, in_the_way: Sequence[Finding] = ()) -> tuple[str, ...]:
    """Return what to do, most urgent first; never empty.

    Args:
        status: What the agent says, or what its state says without it.
        in_the_way: What else was found to be wrong with this device.
    """
    fails = [_said(finding) for finding in in_the_way if finding.level is Level.FAIL]
    warns = [_said(finding) for finding in in_the_way if finding.level is Level.WARN]
    start = [] if status.running or any(f.check == "agent" for f in in_the_way) else [START]
    own = [finding.mend for finding in troubles(status)]
    return (*fails, *start, *own, *_waiting(status), *warns) or (NOTHING,)


def _said(finding: Finding) -> str:
    return f"{finding.check}: {finding.detail} -> {finding.mend}"


def _waiting(status: AgentStatus) -> Iterator[str]:
    if status.running and status.broker == CONNECTED and not status.models:
        yield "nothing is assigned to it yet: wait for the host, or install a FILE"


def troubles(status: AgentStatus) -> Iterator[Finding]:
    """Yield what the agent says is wrong, or not as one might expect, each with what to do about it."""
    if status.running and status.broker != CONNECTED:
        yield _warn(
            "broker", status.broker, f"broker: {broker_mend(status.broker)} (edgepick-agent doctor looks closer)"
        )
    if status.disk_free_bytes < LITTLE_SPACE_BYTES:
        free = f"{status.disk_free_bytes // 1024**2} MiB free"
        yield _warn("disk", free, "the disk is full, or nearly; make room: du -xh / | sort -h | tail -20")
    back = {model.model for model in status.models if model.previous is not None}
    yield from (_failing(runner, back=runner.model in back) for runner in status.runners if runner.failures)
    yield from (_not_started(r) for r in status.runners if r.state == WAITING and not r.failures)
    if status.absent is not None:
        mend = f"{status.absent}; on the host: edgepick publish --republish; then it goes on by itself"
        yield _warn("delivery", status.absent, mend)
    for model in status.models:
        yield from _about(model, held=model.model in status.held)


def _warn(check: str, detail: str, mend: str) -> Finding:
    return Finding(check=check, level=Level.WARN, detail=detail, mend=mend)


def _failing(runner: RunnerStatus, *, back: bool) -> Finding:
    instead = f"edgepick-agent rollback {runner.model}" if back else "edgepick-agent install FILE, of another variant"
    return _warn(
        "runner",
        f"{runner.model}: failed {runner.failures} time(s) in a row {f'({runner.detail})' if runner.detail else ''}",
        f"{runner.model}: its runner fails again and again: edgepick-agent logs says why; if it goes on: {instead}",
    )


def _not_started(runner: RunnerStatus) -> Finding:
    said = f"{runner.model}: its runner cannot be started"
    mend = "edgepick-agent logs says what this device lacks; mend that, and it starts by itself"
    return _warn("runner", said, f"{said}: {mend}")


def _about(model: ModelState, *, held: bool) -> Iterator[Finding]:
    name = model.model
    if held:
        mend = f"{name}: pinned here, whatever the host wants; to end that: edgepick-agent unpin {name}"
        yield _warn("pin", f"{name}: {model.active_label or model.active}, until it is unpinned", mend)
    elif model.refusal and model.phase in {Phase.REFUSED, Phase.REVERTED}:
        yield _warn("model", f"{name}: {model.refusal.detail}", f"{name}: {model.refusal.hint}")
    elif model.phase is Phase.EMPTY:
        mend = f"{name}: nothing is installed; wait for the host, or edgepick-agent install FILE"
        yield _warn("model", f"{name}: nothing is installed", mend)
    if model.pinned and not held:
        mend = (
            f"{name}: its variant was chosen here; it stays until the host starts another rollout, or is unpinned here"
        )
        yield _warn("pin", f"{name}: {model.active_label or model.active}, chosen here", mend)
