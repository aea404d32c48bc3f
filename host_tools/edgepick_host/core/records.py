"""What the host keeps about releases, devices and their desired state."""

import datetime as dt
from dataclasses import dataclass

from edgepick_wire.enums import StrEnum
from edgepick_wire.messages import Birth, Presence, Report, Reported


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
        samples: Size of that set; ``None`` in records of older versions.
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
    samples: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What is known of a device; parts are ``None`` until they have been heard."""

    device: str
    birth: Birth | None = None
    reported: Reported | None = None
    online: bool = False
    last_seen: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """What a device said at one time: each part as it was said last, ``None`` where it said nothing of it."""

    device: str
    at: float
    birth: Birth | None = None
    presence: Presence | None = None
    reported: Reported | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """How far parts of the store have been written: each number rises with every change, whoever makes it."""

    desired: int = 0
    rollouts: int = 0
    releases: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OldReport:
    """A report as it is found by its age.

    Attributes:
        position: Where it stands in the log.
        heard_at: When it was taken in, by the clock of the service that did.
        size_bytes: Of its document.
    """

    position: int
    heard_at: float
    size_bytes: int
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many reports about a model were deleted for their age, and what was old enough the last time."""

    reports: int
    before: float

    @property
    def text(self) -> str:
        """Return it for people."""
        day = dt.datetime.fromtimestamp(self.before, dt.timezone.utc).date()
        return f"{self.reports} old reports about the model were deleted, the last from before {day.isoformat()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRow:
    """A device in a rollout, as the store keeps it: which lane, which place in it, and its document."""

    lane: int
    place: int
    device: str
    document: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceQuery:
    """Which devices to show.

    Attributes:
        search: A part of the device's name or of its profile's; case does not count.
        model: Only devices that say something about this model.
        variant: Only devices on which this version and variant is active, such as ``1 static_wi8_ai8-tflite``.
        after: Devices whose names follow this one.
    """

    search: str = ""
    profile: str | None = None
    online: bool | None = None
    model: str | None = None
    variant: str | None = None
    after: str = ""
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePage:
    """Some of the devices that match, and how many match in all."""

    devices: tuple[Device, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileCount:
    """How many devices of a kind were ever heard; ``profile`` is ``None`` before a device's birth was heard."""

    profile: str | None
    devices: int
    online: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCount:
    """How many devices of a kind say the same about a model; ``refusal`` is the code of why not what was wanted."""

    profile: str | None
    model: str
    phase: str
    active_label: str | None
    refusal: str | None
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """What somebody did, or tried to.

    Attributes:
        at: Seconds since the epoch.
        actor: Name of the token, or ``cli:`` and the account.
        action: Such as ``rollout.pause``.
        target: What it was done to.
        outcome: ``done``, or why it was refused.
    """

    at: float
    actor: str
    role: str
    action: str
    target: str
    outcome: str
    detail: str = ""


class Role(StrEnum):
    """What the holder of a token may do."""

    VIEWER = "viewer"
    """See everything, change nothing."""
    OPERATOR = "operator"
    """Start, pause, resume and abort rollouts, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Access to the service's API; the secret itself is never kept.

    Attributes:
        name: Whose it is; stands in the audit log.
        digest: SHA-256 of the secret, in hexadecimal.
    """

    name: str
    role: Role
    digest: str
    created_at: float


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
