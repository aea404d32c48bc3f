"""Shadows from the operator's side: who is told to run which candidate, and what came of it.

A shadow decides nothing. It is told to profiles or devices like an order to measure, and its reports are for people.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgepick_host.core.records import Device, Release
from edgepick_host.core.release import Wish
from edgepick_host.errors import StateError
from edgepick_host.ports import HostStore
from edgepick_host.service.targets import Target, Targets, ToldTarget
from edgepick_wire.messages import Report, TargetKind
from edgepick_wire.shadow import CAPABILITY, ShadowRequest

HINT_AGENT = "Update edgepick-agent there; an older one does not see the order."


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Whom it concerns: these devices, or else every device of these kinds; of neither, every kind it is for."""

    profiles: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadowing:
    """A shadow that was asked for.

    Attributes:
        targets: Who was told.
        unable: Devices among them whose agents are too old to know what a shadow is.
    """

    request: ShadowRequest
    release: Release
    targets: tuple[ToldTarget, ...]
    unable: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadows:
    """What can be done about shadows in one fleet."""

    store: HostStore
    targets: Targets

    def start(self, release: Release, request: ShadowRequest, audience: Audience) -> Shadowing:
        """Have devices run a release as the shadow of what is active there; what they shadowed before ends.

        Raises:
            StateError: It is not for these devices, or none of them can do it.
            UnreachableError: The broker went away.
        """
        chosen = self._chosen(audience, release.profiles)
        foreign = sorted(t.name for t in chosen if t.profile not in release.profiles)
        if foreign:
            what = f"{release.model} {release.version} {release.variant} is for {', '.join(release.profiles)}"
            raise StateError(f"{what}; not for {', '.join(foreign)}", hint="Choose a variant that is for them.")
        unable = self._unable(chosen)
        wish = Wish(model=release.model, best=None, shadow=request)
        told = self.targets.tell(dict.fromkeys(chosen, wish))
        return Shadowing(request=request, release=release, targets=told, unable=unable)

    def stop(self, model: str, audience: Audience) -> tuple[ToldTarget, ...]:
        """Call off the shadows of a model; what they have seen so far is not reported.

        Raises:
            UnreachableError: The broker went away.
        """
        published = dict.fromkeys(p for r in self.store.releases(model) for p in r.profiles)
        chosen = self._chosen(audience, tuple(published))
        return self.targets.tell(dict.fromkeys(chosen, Wish(model=model, best=None, calls_off_shadow=True)))

    def _chosen(self, audience: Audience, published: tuple[str, ...]) -> tuple[Target, ...]:
        if audience.devices:
            return self.targets.of_devices(audience.devices)
        names = audience.profiles or published
        return tuple(Target(kind=TargetKind.PROFILE, name=name, profile=name) for name in names)

    def _unable(self, chosen: Iterable[Target]) -> tuple[str, ...]:
        """Return the devices that will ignore it; refuse if those are all there are."""
        names = {(t.kind, t.name) for t in chosen}
        concerned = [d for d in self.store.devices() if {(TargetKind.DEVICE, d.device), _kind(d)} & names]
        unable = tuple(d.device for d in concerned if d.birth is not None and CAPABILITY not in d.birth.capabilities)
        if unable and len(unable) == len(concerned):
            raise StateError(f"the agents of {', '.join(unable[:5])} do not know what a shadow is", hint=HINT_AGENT)
        return unable


def _kind(device: Device) -> tuple[TargetKind, str]:
    return TargetKind.PROFILE, device.birth.profile if device.birth else ""


def find_release(releases: Sequence[Release], model: str, version: str, variant: str) -> Release:
    """Return what was published under these names; of several, the newest.

    Raises:
        StateError: Nothing was.
    """
    found = [r for r in releases if (r.model, r.version, r.variant) == (model, version, variant)]
    if found:
        return found[-1]
    known = ", ".join(dict.fromkeys(f"{r.version} {r.variant}" for r in releases if r.model == model)) or "nothing"
    raise StateError(
        f"no variant {variant!r} of {model} {version} was published; of {model} there is: {known}",
        hint="edgepick publish puts variants where devices find them.",
    )


def results(reports: Iterable[Report], model: str | None) -> tuple[Report, ...]:
    """Return the reports of shadows, of one model or of all, in the order of their arrival."""
    return tuple(r for r in reports if r.shadow is not None and model in (None, r.shadow.model))
