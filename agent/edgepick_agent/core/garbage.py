"""Which bundles a device still needs."""

from edgepick_agent.core.standing import desired_of
from edgepick_agent.core.turn import Agent


def bundles_in_use(agent: Agent) -> frozenset[str]:
    """Return the manifests whose bundles stay: both slots, what is wanted, what is under way."""
    slots = {slot.manifest for record in agent.durable.models.values() for slot in (record.a, record.b) if slot}
    job = {agent.job.manifest} if agent.job else set()
    job |= {agent.shadow.request.manifest} if agent.shadow else set()
    return frozenset(slots | job | set(agent.serving) | _wanted(agent))


def _wanted(agent: Agent) -> set[str]:
    desired = desired_of(agent)
    if desired is None:
        return set()
    active = {a.active for a in desired.models if a.active is not None}
    asked = {a.shadow for a in desired.models if a.shadow is not None and a.shadow.id not in agent.durable.measured}
    active |= {request.manifest for request in asked}
    return active | {r.manifest for a in desired.models for r in a.measure if r.id not in agent.durable.measured}


def downloads_in_use(agent: Agent) -> frozenset[str] | None:
    """Return the digests of files that are being fetched; ``None`` if that is not known.

    Before the desired state has arrived, and while something is put off, any part may be wanted.
    """
    if agent.job is None:
        return frozenset() if desired_of(agent) is not None and not agent.later else None
    return agent.job.content.downloads if agent.job.content else None
