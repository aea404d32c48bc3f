"""What an agent must not forget: trust, slots, verdicts. One JSON file, replaced atomically.

It is written before the effects that depend on it run, so that after a power cut the device
knows at least what it did.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from edgepick_wire import codec
from edgepick_wire.enums import StrEnum
from edgepick_wire.envelope import Role
from edgepick_wire.errors import MalformedError
from edgepick_wire.ids import check_digest, check_name
from edgepick_wire.messages import Outcome, Refusal, TargetKind
from edgepick_wire.trust import RootDocument

STATE_SCHEMA = 1
VERDICTS_KEPT = 16
MEASURED_KEPT = 512
ROOTS_KEPT = 64
"""Root documents that are known again: sixteen years of them, if keys change with the seasons."""


class SlotName(StrEnum):
    """The two places that a model has on a device."""

    A = "a"
    B = "b"

    @property
    def other(self) -> "SlotName":
        """The idle one, if this is the active one."""
        return SlotName.B if self is SlotName.A else SlotName.A


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """An installed variant: its manifest's digest, a label for people, and its security epoch."""

    manifest: str
    label: str
    security_epoch: int

    def __post_init__(self) -> None:
        """Refuse a manifest that is not a digest."""
        check_digest(self.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who asked for an installation, and what it cost.

    Attributes:
        sequence: Sequence of the desired state; 0 for a local installation.
        rollout: The rollout that asked for it.
        chunks_fetched: Chunks received over the network.
        chunks_reused: Chunks found on disk.
        bytes_fetched: Payload bytes received.
        seconds: Time spent, powered off not counted.
    """

    sequence: int = 0
    rollout: str | None = None
    chunks_fetched: int = 0
    chunks_reused: int = 0
    bytes_fetched: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A "no" of this device to one manifest within one rollout; it is not tried again within it.

    Attributes:
        sequence: Sequence of the desired state at that time; a *refused* variant (not a reverted
            one) is looked at again when a newer one still wants it.
    """

    manifest: str
    rollout: str | None
    sequence: int
    outcome: Outcome
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """The slots of one model.

    Attributes:
        active: The slot that serves; ``None`` if nothing does.
        confirmed: The active variant passed the health gate.
        pinned: A technician chose the active variant; ends with the host's next wish.
        held: A technician pinned what serves; nothing the host wants replaces it until it is unpinned.
        origin: Who asked for the active variant.
        verdicts: The latest refusals, oldest first.
    """

    a: Slot | None = None
    b: Slot | None = None
    active: SlotName | None = None
    confirmed: bool = False
    pinned: bool = False
    held: bool = False
    origin: Origin = Origin()
    verdicts: tuple[Verdict, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an active slot that is empty, and the same variant twice."""
        if self.active is not None and self.slot(self.active) is None:
            raise MalformedError(f"slot {self.active} is active but empty")
        if self.a is not None and self.b is not None and self.a.manifest == self.b.manifest:
            raise MalformedError("both slots hold the same variant")

    def slot(self, name: SlotName) -> Slot | None:
        """Return what is in a slot."""
        return self.a if name is SlotName.A else self.b

    @property
    def current(self) -> Slot | None:
        """What serves."""
        return self.slot(self.active) if self.active else None

    @property
    def previous(self) -> Slot | None:
        """What served before, still installed."""
        return self.slot(self.active.other) if self.active else None

    def verdict(self, manifest: str, rollout: str | None) -> Verdict | None:
        """Return the verdict on a manifest within a rollout, if there is one."""
        found = (v for v in self.verdicts if (v.manifest, v.rollout) == (manifest, rollout))
        return next(found, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The newest desired state of one address: its sequence, and the digest of its payload."""

    sequence: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Which root documents the device's trust came by, from the configured one on.

    Attributes:
        fleet: The fleet of all of them.
        campaign: Who could sign desired states by the configured one.
        digests: Of the documents' payloads, the configured one first, then each that was followed.
    """

    fleet: str
    campaign: Role
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """Everything durable.

    Attributes:
        session: Counts up with every start.
        root: The newest root document that was followed; ``None`` while the configured one holds.
        lineage: How that came about; ``None`` before an agent that keeps it has started.
        seen: The newest desired state per kind of address.
        security_epoch: Highest epoch of a confirmed variant.
        models: Slots per model.
        measured: Ids of measure and shadow requests that are done, oldest first.
        attempts: Times that something which may take the device down was begun and not yet ended.
    """

    schema: int = STATE_SCHEMA
    session: int = 0
    root: RootDocument | None = None
    lineage: Lineage | None = None
    seen: Mapping[str, Seen] = field(default_factory=dict)
    security_epoch: int = 0
    models: Mapping[str, ModelRecord] = field(default_factory=dict)
    measured: tuple[str, ...] = ()
    attempts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse another schema, and names that are none."""
        if self.schema != STATE_SCHEMA:
            raise MalformedError(f"state schema {self.schema}; this agent knows {STATE_SCHEMA}")
        for name in self.models:
            check_name("model", name)

    @property
    def sequence(self) -> int:
        """The highest sequence seen at any address."""
        return max((seen.sequence for seen in self.seen.values()), default=0)

    def model(self, name: str) -> ModelRecord:
        """Return the record of a model, empty if it is new."""
        return self.models.get(name, ModelRecord())


def encode_state(state: AgentState) -> bytes:
    """Return the state as the content of its file."""
    return codec.encode_document(state, indent=1) + b"\n"


def decode_state(data: bytes) -> AgentState:
    """Return the state that a file of this schema or an older one holds.

    A field with a default needs no new schema: older files lack it, and older agents pass it over.

    Raises:
        WireError: Damaged, or written by a version that this one does not understand.
    """
    document = codec.parse_json(data, AgentState.__name__)
    return codec.from_plain(AgentState, _migrated(document) if isinstance(document, dict) else document)


def _migrated(document: Mapping[str, object]) -> Mapping[str, object]:
    """Return the document in this schema, brought there step by step.

    Nothing is written here: the file keeps its old form until the next state replaces it whole, so
    a power cut leaves either the old file or the new one, and the steps are simply taken again.
    """
    while (schema := document.get("schema", 0)) in MIGRATIONS and isinstance(schema, int):
        document = {**MIGRATIONS[schema](document), "schema": schema + 1}
    return document


def _unnumbered(document: Mapping[str, object]) -> Mapping[str, object]:
    return document  # 1 differs from it only by the number


MIGRATIONS: Mapping[object, Callable[[Mapping[str, object]], Mapping[str, object]]] = {0: _unnumbered}
"""Schema -> what turns a document of it into one of the next; a file without a number is 0."""


def with_model(state: AgentState, name: str, record: ModelRecord) -> AgentState:
    """Return the state with one model's record replaced."""
    return replace(state, models={**state.models, name: record})


def with_seen(state: AgentState, kind: TargetKind, seen: Seen) -> AgentState:
    """Return the state with a newer desired state noted."""
    return replace(state, seen={**state.seen, kind.value: seen})


def with_root(state: AgentState, root: RootDocument, digest: str) -> AgentState:
    """Return the state following a root document whose payload has this digest."""
    before = state.lineage
    grown = replace(before, digests=(*before.digests, digest)[-ROOTS_KEPT:]) if before is not None else None
    return replace(state, root=root, lineage=grown)


def with_attempt(state: AgentState, what: str) -> AgentState:
    """Return the state with one more attempt at ``what`` begun."""
    return replace(state, attempts={**state.attempts, what: state.attempts.get(what, 0) + 1})


def without_attempts(state: AgentState, what: str) -> AgentState:
    """Return the state with ``what`` ended, however it ended."""
    return replace(state, attempts={key: count for key, count in state.attempts.items() if key != what})


def over_budget(request: str, max_bytes: int | None) -> str:
    """Return what is noted of a request that was too dear: it is done with as long as the budget is the same."""
    return f"{request}@{max_bytes}"


def with_measured(state: AgentState, request: str) -> AgentState:
    """Return the state with a measure request done."""
    kept = tuple(done for done in state.measured if done != request)[-(MEASURED_KEPT - 1) :]
    return replace(state, measured=(*kept, request))
