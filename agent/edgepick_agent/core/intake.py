"""What arrives from the broker: who may say it, and what it changes."""

from dataclasses import replace

from edgepick_agent.core import assignments
from edgepick_agent.core.admission import refuse
from edgepick_agent.core.delivery import interrupt, on_chunks, on_manifest_delivered, resume
from edgepick_agent.core.effects import Publish, PublishBirth, ResendReports, Say, Subscribe, Unsubscribe
from edgepick_agent.core.events import ChunksDelivered, Connected, Delivered, Disconnected, Oversized, TransportEvent
from edgepick_agent.core.exhaustive import assert_never
from edgepick_agent.core.outbox import acknowledge, report_incident
from edgepick_agent.core.planning import forgive
from edgepick_agent.core.state import Seen, with_root, with_seen
from edgepick_agent.core.turn import Ahead, Turn
from edgepick_wire import codec, limits, topics
from edgepick_wire.errors import WireError
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import (
    Ack,
    Desired,
    Incident,
    IncidentCode,
    Presence,
    Refusal,
    RefusalCode,
    TargetKind,
)
from edgepick_wire.topics import DeviceTopic
from edgepick_wire.trust import RootDocument

REFUSED_KEPT = 64

ROOT_CHAIN_SECONDS = 10.0
"""Without a step for so long, the way to a root document is taken for broken: many round trips of a slow network."""


def on_transport(turn: Turn, event: TransportEvent) -> None:
    """Take note of the broker's news."""
    match event:
        case Connected():
            _connected(turn)
        case Disconnected():
            turn.change(connected=False, broker=event.reason)
            interrupt(turn)
        case Delivered():
            _delivered(turn, event)
        case ChunksDelivered():
            on_chunks(turn, event.chunks)
        case Oversized():
            _oversized(turn, event)
        case _:
            assert_never(event)


def _connected(turn: Turn) -> None:
    if not turn.agent.connected:
        turn.do(Say("connected to the broker"))
    turn.change(connected=True, broker="connected", reported=None)
    device, fleet = turn.settings.device, turn.settings.fleet
    ack = topics.device(fleet, device, DeviceTopic.ACK)
    # The root documents first, in a packet of their own: desired states may be signed by the newest keys.
    turn.change(ahead=None)
    turn.do(Subscribe((_next_root(turn), topics.root(fleet), topics.host(fleet), ack), 1))
    _ask_for_desired(turn)
    presence = Presence(session=turn.agent.durable.session, online=True)
    turn.do(Publish(topics.device(fleet, device, DeviceTopic.PRESENCE), codec.encode(presence)))
    say_birth(turn)
    _resend(turn)
    resume(turn)


def say_birth(turn: Turn) -> None:
    """Tell the host who this is, as soon as it is known what can be run here."""
    if turn.agent.connected and turn.agent.runtimes is not None:
        turn.do(PublishBirth(turn.agent.durable.session, turn.agent.runtimes))


def _ask_for_desired(turn: Turn) -> None:
    turn.do(Subscribe((_desired_topic(turn, TargetKind.DEVICE), _desired_topic(turn, TargetKind.PROFILE)), 1))


def _next_root(turn: Turn) -> str:
    return topics.root_version(turn.settings.fleet, turn.trust.root.version + 1)


def _desired_topic(turn: Turn, kind: TargetKind) -> str:
    settings = turn.settings
    if kind is TargetKind.DEVICE:
        return topics.device(settings.fleet, settings.device, DeviceTopic.DESIRED)
    return topics.profile_desired(settings.fleet, settings.profile)


def _resend(turn: Turn) -> None:
    if turn.agent.outbox:
        turn.do(ResendReports(turn.agent.outbox))


def chunk_named(topic: str) -> str | None:
    """Return the digest that a chunk's topic names, ``None`` for any other topic."""
    return topic[-64:] if topic[-66:-64] == "c/" and topic.startswith(topics.PREFIX) else None


def _delivered(turn: Turn, event: Delivered) -> None:
    topic, payload, fleet = event.topic, event.payload, turn.settings.fleet
    if topic in {topics.root(fleet), _next_root(turn)}:
        _on_root(turn, payload)
    elif topic == topics.host(fleet):
        _on_host(turn, payload)
    elif topic == topics.device(fleet, turn.settings.device, DeviceTopic.ACK):
        _on_ack(turn, payload)
    elif topic in {_desired_topic(turn, kind) for kind in TargetKind}:
        kind = next(kind for kind in TargetKind if topic == _desired_topic(turn, kind))
        _on_desired(turn, kind, payload)
    elif topic[-66:-64] == "m/":
        on_manifest_delivered(turn, topic[-64:], payload)


def _on_root(turn: Turn, payload: bytes) -> None:
    if not payload or digest_of(payload) in turn.agent.refused:
        return
    root = assignments.verified_root(payload, turn.trust)
    ahead = assignments.root_ahead(payload, turn.trust)
    if isinstance(root, RootDocument):
        _follow_root(turn, root, payload)
    elif ahead is not None:
        _await_chain(turn, Ahead(version=ahead, payload=payload, since=turn.now))
    elif root is not None:
        _refuse_document(turn, payload, root)


def follow_chain(turn: Turn, documents: tuple[bytes, ...]) -> None:
    """Follow the root documents that came with a bundle file, as far as each leads to the next."""
    for payload in documents:
        root = assignments.verified_root(payload, turn.trust)
        if isinstance(root, RootDocument):
            _follow_root(turn, root, payload)


def _await_chain(turn: Turn, ahead: Ahead) -> None:
    before = turn.agent.ahead
    if before is None or before.version < ahead.version:
        turn.change(ahead=ahead)
        turn.do(Say(f"root document version {ahead.version} is out; has {turn.trust.root.version}, follows the chain"))


def _follow_root(turn: Turn, root: RootDocument, payload: bytes) -> None:
    """Follow the next root document, and ask for the one after it."""
    old, asked = turn.trust.root, _next_root(turn)
    turn.keep(with_root(turn.agent.durable, root, assignments.payload_digest(payload)))
    ahead = turn.agent.ahead
    arrived = ahead is None or ahead.version <= root.version
    turn.change(refused=(), ahead=None if ahead is None or arrived else replace(ahead, since=turn.now))
    if assignments.out_of_office(old.campaign, root.campaign):
        _forget_sequences(turn)
    forgive(turn)
    turn.do(Say(f"follows root document version {root.version}"))
    turn.do(Unsubscribe((asked,)), Subscribe((_next_root(turn),), 1))
    if arrived:
        _ask_for_desired(turn)


def _forget_sequences(turn: Turn) -> None:
    """Begin anew with the first desired state of the new keys.

    Whoever stole the old ones may have used a sequence that the host never reaches; and no document
    of the old keys can be replayed, since none of them is signed well enough any more. Those that
    were followed are passed over in silence until the host has signed them again.
    """
    turn.keep(replace(turn.agent.durable, seen={}))
    outdated = (*turn.agent.outdated, *turn.agent.sources.values())[-REFUSED_KEPT:]
    turn.change(documents={}, sources={}, outdated=outdated)


def on_tick(turn: Turn) -> None:
    """Refuse a root document that the chain does not lead to."""
    ahead = turn.agent.ahead
    if ahead is None or turn.now < ahead.since + ROOT_CHAIN_SECONDS:
        return
    turn.change(ahead=None)
    missing = turn.trust.root.version + 1
    detail = f"root document: version {ahead.version} is out, version {missing} that leads to it is not, or is refused"
    hint = f"Let the host publish version {missing} again: edgepick keys publish"
    _refuse_document(turn, ahead.payload, refuse(RefusalCode.BAD_SIGNATURE, detail, hint))
    _ask_for_desired(turn)


def _on_host(turn: Turn, payload: bytes) -> None:
    try:
        presence = codec.decode(Presence, payload)
    except WireError:
        return  # A cleared or foreign presence says nothing that the device depends on.
    if presence.online:  # said at each of the host's connections: what it was sent before may be lost
        _resend(turn)


def _on_ack(turn: Turn, payload: bytes) -> None:
    try:
        acknowledge(turn, codec.decode(Ack, payload).ids)
    except WireError as error:
        turn.fail(f"acknowledgement: {error}")


def _on_desired(turn: Turn, kind: TargetKind, payload: bytes) -> None:
    if not payload or digest_of(payload) in (*turn.agent.refused, *turn.agent.outdated):
        return
    seen = turn.agent.durable.seen.get(kind.value)
    desired = assignments.verified_desired(payload, kind, turn.context.addressee, turn.trust, seen)
    if isinstance(desired, Refusal) and desired.code is RefusalCode.BAD_SIGNATURE and turn.agent.ahead:
        return  # Its key may come to office at the end of the chain; it is asked for again then.
    if isinstance(desired, Refusal):
        _refuse_document(turn, payload, desired)
    else:
        _follow(turn, kind, desired, payload)


def _follow(turn: Turn, kind: TargetKind, desired: Desired, payload: bytes) -> None:
    seen = Seen(sequence=desired.sequence, digest=assignments.payload_digest(payload))
    if turn.agent.durable.seen.get(kind.value) != seen:
        turn.keep(with_seen(turn.agent.durable, kind, seen))
        turn.do(Say(f"desired state of {kind} {desired.target}: sequence {desired.sequence}"))
        forgive(turn)
    turn.change(
        documents={**turn.agent.documents, kind: desired}, sources={**turn.agent.sources, kind: digest_of(payload)}
    )


def _refuse_document(turn: Turn, payload: bytes, refusal: Refusal) -> None:
    """Report a refused document once; the broker delivers it again at every connection."""
    turn.change(refused=(*turn.agent.refused, digest_of(payload))[-REFUSED_KEPT:])
    _report(turn, refusal)


def _report(turn: Turn, refusal: Refusal) -> None:
    detail = f"{refusal.code}: {refusal.detail}"
    report_incident(turn, Incident(code=IncidentCode.DESIRED_REFUSED, detail=detail))


def _oversized(turn: Turn, event: Oversized) -> None:
    detail = f"{event.size} bytes on {event.topic[-120:]}; at most {limits.MAX_PAYLOAD_BYTES} are accepted"
    if chunk_named(event.topic):
        report_incident(turn, Incident(code=IncidentCode.CHUNK_CORRUPT, detail=detail))
    else:
        _report(turn, refuse(RefusalCode.MALFORMED, detail, ""))
