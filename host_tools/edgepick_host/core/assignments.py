"""Which of a device's two desired states holds, and how one assignment in them is changed. Pure.

Of the document for the device and the one for its profile, the one with the higher sequence holds
as a whole. So whatever is written for a device carries all its models, and orders to measure are
taken over from its profile's document, where they live.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgepick_host.core.checks import PREFIX
from edgepick_wire import topics
from edgepick_wire.messages import Assignment, Desired, MeasureRequest, TargetKind
from edgepick_wire.topics import DeviceTopic


def effective(own: Desired | None, common: Desired | None) -> Desired | None:
    """Return the document that holds for a device: its own or its profile's."""
    found = [d for d in (own, common) if d is not None]
    return max(found, key=lambda d: d.sequence, default=None)


def desired_topic(fleet: str, kind: TargetKind, target: str) -> str:
    """Return where the desired state of a device or a profile is retained."""
    if kind is TargetKind.PROFILE:
        return topics.profile_desired(fleet, target)
    return topics.device(fleet, target, DeviceTopic.DESIRED)


def assignment_in(document: Desired | None, model: str) -> Assignment:
    """Return what a document says about ``model``; an empty assignment if nothing."""
    models = document.models if document else ()
    return next((m for m in models if m.model == model), Assignment(model=model))


def device_models(
    own: Desired | None, common: Desired | None, change: Assignment | None = None
) -> tuple[Assignment, ...]:
    """Return everything that one device should do, with ``change`` to one model's variant.

    Orders to measure live in the profile's document; those of the device's own newer one and of ``change`` are added.
    An order to measure after an installation ends with the rollout that gave it.
    """
    document = effective(own, common)
    holding = {m.model: m for m in (document.models if document else ())}
    if change is not None:
        holding[change.model] = change
    merged = (replace(m, measure=_orders(m, document, common)) for m in holding.values())
    return tuple(sorted(merged, key=lambda m: m.model))


def _orders(holding: Assignment, *documents: Desired | None) -> tuple[MeasureRequest, ...]:
    standing = (r for d in documents for r in assignment_in(d, holding.model).measure)
    found = (*(r for r in standing if not r.id.startswith(PREFIX)), *holding.measure)
    return tuple({r.id: r for r in found}.values())


def profile_models(
    common: Desired | None, change: Assignment, *, measure: Sequence[MeasureRequest] = ()
) -> tuple[Assignment, ...]:
    """Return everything that a profile should do, with ``change`` to one variant and more orders to measure.

    Orders to compare in pairs replace those of earlier rollouts, so that a document does not grow with every rollout.
    """
    models = {m.model: m for m in (common.models if common else ())}
    before = models.get(change.model, Assignment(model=change.model))
    anew = any(r.pair for r in measure)
    staying = (r for r in before.measure if not (anew and r.pair))
    orders = tuple({r.id: r for r in (*staying, *measure)}.values())
    models[change.model] = replace(change, measure=orders)
    return tuple(sorted(models.values(), key=lambda m: m.model))


def actives(models: Sequence[Assignment]) -> Mapping[str, str | None]:
    """Return the wanted variant of each model."""
    return {m.model: m.active for m in models}
