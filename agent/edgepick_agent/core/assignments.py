"""Whether a desired state or a root document may be followed, and which of two desired states holds.

Trust begins with the root document that a person put on the device, and goes on with those that follow
it. Another document there than those that it came by is the word of a person too: it begins anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from edgepick_agent.core.admission import Trust, refuse
from edgepick_agent.core.state import AgentState, Lineage, Seen
from edgepick_wire import codec, envelope
from edgepick_wire.envelope import DocumentType, Role, VerifySignature
from edgepick_wire.errors import SignatureError, WireError
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import Desired, Refusal, RefusalCode, TargetKind
from edgepick_wire.trust import RootDocument, first_root, next_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """Whom a desired state must address to concern this device."""

    fleet: str
    device: str
    profile: str

    def name(self, kind: TargetKind) -> str:
        """Return this device's name, or its profile's."""
        return self.device if kind is TargetKind.DEVICE else self.profile


def verified_desired(
    raw: bytes, kind: TargetKind, addressee: Addressee, trust: Trust, seen: Seen | None
) -> Desired | Refusal:
    """Return the desired state in a signed document that arrived on the topic of ``kind``, or why not.

    The same document again is accepted again: it holds. An older one is a replay.
    """
    try:
        document = envelope.unpack(raw)
        payload = envelope.verify(document, DocumentType.DESIRED, trust.root.campaign, trust.check)
        desired = codec.decode(Desired, payload)
    except SignatureError as error:
        return refuse(RefusalCode.BAD_SIGNATURE, f"desired state: {error}", error.hint)
    except WireError as error:
        return refuse(RefusalCode.MALFORMED, f"desired state: {error}", error.hint)
    return _addressed(desired, kind, addressee) or _newer(desired, digest_of(payload), seen) or desired


def _addressed(desired: Desired, kind: TargetKind, addressee: Addressee) -> Refusal | None:
    if desired.fleet != addressee.fleet:
        return refuse(
            RefusalCode.WRONG_FLEET,
            f"desired state of fleet {desired.fleet!r}; this device belongs to {addressee.fleet!r}",
            "Somebody copied a message from another fleet; look at who may publish.",
        )
    if desired.target_kind is kind and desired.target == addressee.name(kind):
        return None
    code = RefusalCode.WRONG_DEVICE if kind is TargetKind.DEVICE else RefusalCode.WRONG_PROFILE
    return refuse(
        code,
        f"desired state for {desired.target_kind} {desired.target!r} on the topic of {addressee.name(kind)!r}",
        "Somebody copied a message to another address; look at who may publish.",
    )


def _newer(desired: Desired, digest: str, seen: Seen | None) -> Refusal | None:
    if seen is None or desired.sequence > seen.sequence or (desired.sequence, digest) == (seen.sequence, seen.digest):
        return None
    return refuse(
        RefusalCode.OLDER_SEQUENCE,
        f"desired state has sequence {desired.sequence}; sequence {seen.sequence} was already followed",
        "A replay of an old message, or a host that lost its state; let the host publish a higher sequence.",
    )


def payload_digest(raw: bytes) -> str:
    """Return the digest of a signed document's payload, once it is known to be one."""
    return digest_of(envelope.unpack(raw).payload)


def holding(documents: Mapping[TargetKind, Desired], seen: Mapping[str, Seen]) -> Desired | None:
    """Return the desired state that holds: the highest sequence of both addresses.

    ``None`` while the one with the highest sequence ever seen has not arrived again in this
    session: acting on the other would undo it for a moment.
    """
    newest = max(documents.values(), key=lambda d: d.sequence, default=None)
    highest = max((s.sequence for s in seen.values()), default=0)
    return newest if newest is not None and newest.sequence >= highest else None


def verified_root(raw: bytes, trust: Trust) -> RootDocument | Refusal | None:
    """Return the root document to follow from now on, why it is refused, or ``None`` if it is not newer."""
    try:
        document = envelope.unpack(raw)
        offered = codec.decode(RootDocument, document.payload)
        if offered.fleet == trust.root.fleet and offered.version <= trust.root.version:
            return None
        return next_root(trust.root, document, trust.check)
    except SignatureError as error:
        return refuse(RefusalCode.BAD_SIGNATURE, f"root document: {error}", error.hint)
    except WireError as error:
        return refuse(RefusalCode.MALFORMED, f"root document: {error}", error.hint)


def root_ahead(raw: bytes, trust: Trust) -> int | None:
    """Return the version of a root document that others must come before, if it may be one of this fleet.

    Whether it is genuine shows only at the end of the chain that leads to it: its signers may have
    come to office in between.
    """
    try:
        document = envelope.unpack(raw)
        offered = first_root(document, trust.check)
    except WireError:
        return None
    newer = offered.fleet == trust.root.fleet and offered.version > trust.root.version + 1
    return offered.version if newer else None


def out_of_office(old: Role, new: Role) -> bool:
    """Return whether nothing that only ``old`` could sign is signed enough for ``new``."""
    return len(set(old.keys) & set(new.keys)) < new.threshold


class Configured(NamedTuple):
    """The root document that a person put on the device, and the digest of its payload."""

    root: RootDocument
    digest: str


def configured(raw: bytes, check: VerifySignature) -> Configured:
    """Return the root document in a file of the device's.

    Raises:
        SignatureError: It does not sign itself.
        MalformedError: It is no root document.
    """
    document = envelope.unpack(raw)
    return Configured(first_root(document, check), digest_of(document.payload))


def is_new_to(state: AgentState, given: Configured) -> bool:
    """Return whether the device's trust did not come by the configured root document.

    An older agent did not note by which it came; then only another fleet's is known to be new.
    """
    if state.lineage is None:
        return state.root is not None and state.root.fleet != given.root.fleet
    return given.digest not in state.lineage.digests


def begun(state: AgentState, given: Configured) -> AgentState:
    """Return the state of an agent that starts with a configured root document.

    If that is new to it, what was followed no longer counts. The sequences seen are forgotten unless who
    signed them still may, and with the fleet so is all that its hosts counted: epochs and measurements.
    """
    if is_new_to(state, given):
        return _begun_anew(state, given)
    if state.lineage is not None:
        return state
    kept = state.root if state.root is not None and state.root.version > given.root.version else None
    return replace(state, root=kept, lineage=_lineage(given))


def _begun_anew(state: AgentState, given: Configured) -> AgentState:
    before = state.root or state.lineage
    anew = replace(state, root=None, lineage=_lineage(given))
    if before is None or before.fleet != given.root.fleet:
        return replace(anew, seen={}, security_epoch=0, measured=())
    return replace(anew, seen={}) if out_of_office(before.campaign, given.root.campaign) else anew


def _lineage(given: Configured) -> Lineage:
    return Lineage(fleet=given.root.fleet, campaign=given.root.campaign, digests=(given.digest,))
