"""Every effect of the host. Adapters are picked in ``app.py`` only."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from edgepick_host.core.records import (
    AuditEntry,
    Device,
    DevicePage,
    DeviceQuery,
    Hearing,
    Marks,
    MemberRow,
    ModelCount,
    OldReport,
    ProfileCount,
    Pruned,
    Release,
    Token,
)
from edgepick_wire.envelope import DocumentType, Envelope
from edgepick_wire.messages import Birth, Desired, Presence, Report, Reported, TargetKind


class Clock(Protocol):
    """Time; cores are given it as a value."""

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        ...

    def now(self) -> float:
        """Return seconds since the epoch."""
        ...


class Signer(Protocol):
    """Holds one private key, wherever it is."""

    @property
    def public_key(self) -> str:
        """Ed25519 public key, 32 bytes in hexadecimal."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of ``message``."""
        ...


SignDocument = Callable[[DocumentType, bytes], Envelope]
"""``(type, payload) -> envelope`` signed by whoever may sign this type."""

OnMessage = Callable[[str, bytes], None]
"""``(topic, payload)``, called from the broker's own thread."""


class Broker(Protocol):
    """The MQTT broker, seen from the host. Reconnects by itself once it was connected."""

    def connect(self, *, timeout_seconds: float = 10.0) -> None:
        """Return once connected.

        Raises:
            UnreachableError: No answer in time.
            BrokerRefusedError: Wrong password or not allowed.
        """
        ...

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Return once the broker has acknowledged (QoS 1)."""
        ...

    def publish_many(
        self, messages: Iterable[tuple[str, bytes]], *, on_done: Callable[[int], None], retain: bool = True
    ) -> None:
        """Publish messages with a bounded number in flight; ``on_done`` gets the count acknowledged."""
        ...

    def subscribe(self, topics: Sequence[str], on_message: OnMessage) -> None:
        """Deliver every message on these filters (QoS 1); subscribed again after a reconnect."""
        ...

    def shares(self, topic: str) -> bool:
        """Return whether the broker deals the messages of a shared subscription out; tried on a topic of nobody's."""
        ...

    def retained(self, topics: Sequence[str], *, quiet_seconds: float = 0.5) -> dict[str, bytes]:
        """Return the retained messages on these filters, once none has come for ``quiet_seconds``."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class Store(Protocol):
    """The host's memory; every method is one transaction. Decisions are append-only, and reports but for their age."""

    def batch(self) -> AbstractContextManager[None]:
        """Make one transaction of everything that this thread does inside: all of it is kept, or none.

        Inside another batch it is a part of that one.
        """
        ...

    def next_sequence(self, *, above: int = 0, count: int = 1) -> int:
        """Return the first of ``count`` numbers higher than any before and than ``above``, durably."""
        ...

    def marks(self) -> Marks:
        """Return how far desired states, rollouts and releases have been written, by anyone."""
        ...

    def save_release(self, release: Release, envelope: bytes) -> None:
        """Keep a release and its signed manifest; publishing the same again changes nothing."""
        ...

    def releases(self, model: str | None = None) -> Sequence[Release]:
        """Return releases, oldest first."""
        ...

    def manifest(self, digest: str) -> bytes | None:
        """Return a signed manifest."""
        ...

    def renew_manifest(self, digest: str, envelope: bytes) -> None:
        """Replace the signed manifest of a kept release: the same payload, signed again."""
        ...

    def save_desired(self, *desired: Desired) -> None:
        """Keep what targets should do, each unless it has been told something of a higher sequence."""
        ...

    def desired(self, kind: TargetKind, target: str) -> Desired | None:
        """Return what a target should do."""
        ...

    def all_desired(self, *, since: int = 0) -> Sequence[Desired]:
        """Return what every target should do, or only what was written after the mark ``since``."""
        ...

    def hear(self, hearings: Sequence[Hearing]) -> Mapping[str, bool]:
        """Keep what devices said; a last will of an older session changes nothing.

        Returns whether each device is online now whose birth or presence was heard.
        """
        ...

    def heard_birth(self, birth: Birth, at: float) -> None:
        """Keep who a device is."""
        ...

    def heard_presence(self, device: str, presence: Presence, at: float) -> None:
        """Keep whether a device is online; a last will of an older session changes nothing."""
        ...

    def heard_reported(self, reported: Reported, at: float) -> None:
        """Keep what a device runs."""
        ...

    def devices(self) -> Sequence[Device]:
        """Return every device that was ever heard, by id."""
        ...

    def device(self, name: str) -> Device | None:
        """Return one device."""
        ...

    def device_page(self, query: DeviceQuery) -> DevicePage:
        """Return the devices that match, by id, from the one after ``query.after``, and how many match in all."""
        ...

    def profile_counts(self) -> Sequence[ProfileCount]:
        """Return how many devices of each kind there are, and how many are online."""
        ...

    def model_counts(self) -> Sequence[ModelCount]:
        """Return how many devices of each kind say the same about a model."""
        ...

    def add_report(self, report: Report, at: float) -> bool:
        """Keep a report; ``False`` if its device already sent one with this id."""
        ...

    def add_reports(self, reports: Sequence[Report], at: float) -> Sequence[Report]:
        """Keep reports; returns those that are new, in their order."""
        ...

    def reports(
        self, *, model: str | None = None, device: str | None = None, newest: int | None = None
    ) -> Sequence[Report]:
        """Return reports in the order of their arrival: all, or the ``newest`` of them."""
        ...

    def each_report(self, *, model: str | None = None, after: int = 0) -> Iterator[Report]:
        """Yield reports in the order of their arrival, without the first ``after``; never all of them in memory."""
        ...

    def old_reports(self, *, before: float, after: OldReport | None = None, limit: int) -> Sequence[OldReport]:
        """Return reports that were taken in before a time, oldest first, from the one that follows ``after``."""
        ...

    def remove_reports(self, old: Sequence[OldReport], *, before: float) -> Sequence[OldReport]:
        """Delete reports for their age; returns those that were there.

        The newest report of all stays, and every count goes on as if nothing was gone.
        """
        ...

    def pruned(self, model: str) -> Pruned | None:
        """Return how many reports about a model were deleted for their age; ``None`` if none was."""
        ...

    def missing_reports(self, names: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Return those of these reports (device, id) that are not kept."""
        ...

    def append_decision(self, model: str, document: bytes) -> int:
        """Keep a decision record for ever; returns its number."""
        ...

    def decisions(self, model: str | None = None) -> Sequence[tuple[int, bytes]]:
        """Return decision records with their numbers, oldest first."""
        ...

    def save_rollout(self, rollout: str, document: bytes, members: Sequence[MemberRow] = ()) -> None:
        """Keep a rollout's state, replacing the last, and those of its members that changed, all or nothing."""
        ...

    def rollouts(self) -> Sequence[tuple[str, bytes]]:
        """Return every rollout's state, oldest first."""
        ...

    def members(self, rollout: str) -> Sequence[MemberRow]:
        """Return a rollout's members, by lane and place."""
        ...

    def memberships(self, device: str) -> Sequence[tuple[str, bytes]]:
        """Return the rollouts that a device is or was in, with its document in each."""
        ...

    def lease(self, name: str, holder: str, *, now: float, seconds: float) -> str:
        """Return who holds the lease ``name``: taken or extended by ``holder`` if it was free or its own."""
        ...

    def save_token(self, token: Token) -> bool:
        """Keep a token; ``False`` if there is one of this name already."""
        ...

    def tokens(self) -> Sequence[Token]:
        """Return every token, by name."""
        ...

    def remove_token(self, name: str) -> bool:
        """Forget a token; ``False`` if there is none of this name."""
        ...

    def report_count(self, *, model: str | None = None) -> int:
        """Return how many reports were taken in since the beginning, deleted ones too: all, or those about a model."""
        ...

    def add_audit(self, entry: AuditEntry) -> None:
        """Keep what somebody did, for ever."""
        ...

    def audit(self, *, newest: int) -> Sequence[AuditEntry]:
        """Return the newest entries of the audit log, oldest first."""
        ...


class ChunkLedger(Protocol):
    """What has been published to which broker (``host:port``), so that no chunk travels twice."""

    def known_chunks(self, broker: str) -> frozenset[str]:
        """Return the digests of every chunk that ``broker`` was given and not told to forget."""
        ...

    def add_chunks(self, broker: str, digests: Iterable[str]) -> None:
        """Remember that ``broker`` has acknowledged these; known ones change nothing."""
        ...

    def forget_chunks(self, broker: str, digests: Iterable[str] | None = None) -> None:
        """Forget these, or all of the broker's, and then its landmarks too."""
        ...

    def landmarks(self, broker: str) -> frozenset[str]:
        """Return topics that ``broker`` retains unless it has lost something of what it was given."""
        ...

    def set_landmarks(self, broker: str, topics: Collection[str] = (), *, instead_of: Collection[str] = ()) -> None:
        """Make topics landmarks of ``broker``, and others no longer; what is in both becomes one."""
        ...


class Publications(Protocol):
    """What the publications that are under way need, so that nobody clears it."""

    def begin_publication(self, name: str, broker: str, digests: Collection[str], *, until: float) -> None:
        """Remember that a publication to ``broker`` needs these manifests and chunks (SHA-256 in hexadecimal)."""
        ...

    def extend_publication(self, name: str, *, until: float) -> bool:
        """Have a publication last longer; ``False`` if it has ended, or was found to have run out."""
        ...

    def end_publication(self, name: str) -> None:
        """Forget a publication."""
        ...

    def being_published(self, broker: str, *, now: float) -> frozenset[str]:
        """Return everything that publications to ``broker`` need; those that have run out are forgotten."""
        ...


class HostStore(Store, ChunkLedger, Publications, Protocol):
    """The whole database, as the commands open it."""

    def close(self) -> None:
        """Close every connection."""
        ...
