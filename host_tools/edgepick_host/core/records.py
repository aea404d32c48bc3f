"""What the host keeps about releases, devices and their desired state."""

from dataclasses import dataclass

from edgepick_wire.messages import Birth, Presence, Reported


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One published variant.

    Attributes:
        model: Name of the model.
        version: Version label that was published.
        variant: Name of the variant.
        manifest: Digest of the manifest: the release's identity.
        profiles: Kinds of device it is for.
        size_bytes: Model file size.
        security_epoch: As in the manifest.
        accuracy: On the host's evaluation set; ``None`` without labels.
        accuracy_drop: Against the float model, in share.
        rank: Order of preference by the host's own figures, 0 first; only used before any report.
        published_at: Seconds since the epoch.
    """

    model: str
    version: str
    variant: str
    manifest: str
    profiles: tuple[str, ...]
    size_bytes: int
    security_epoch: int
    accuracy: float | None
    accuracy_drop: float | None
    rank: int
    published_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What is known of a device; parts are ``None`` until they have been heard."""

    device: str
    birth: Birth | None = None
    reported: Reported | None = None
    online: bool = False
    last_seen: float | None = None


def is_online(birth: Birth | None, presence: Presence | None) -> bool:
    """Return whether the newest session that was heard of is online.

    A late last will of an older session says nothing about a session that has been born since.
    """
    if presence is None:
        return False
    return presence.online or (birth is not None and birth.session > presence.session)


def newer_presence(known: Presence | None, heard: Presence) -> Presence:
    """Return which of the two holds: everything heard, except the end of a session older than the known one."""
    late_will = known is not None and not heard.online and heard.session < known.session
    return known if late_will and known is not None else heard
