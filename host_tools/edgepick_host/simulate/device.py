"""A simulated device as a pure state machine: ``(state, event) -> (state, actions)``.

It keeps the wire contract as the real agent does (newest desired state holds, one thing at a time, reports until they
are acknowledged, back to the previous variant when one fails), and decides nothing else: how a variant behaves is the
scenario's to say, by lot, the same at every run.
"""

from collections.abc import Callable, Mapping
from typing import Any

from edgepick_host.simulate import sayings
from edgepick_host.simulate.scenario import Ailment, Identity
from edgepick_host.simulate.state import (
    Acknowledged,
    Action,
    Booted,
    DeviceState,
    Due,
    Event,
    HostSeen,
    Obtained,
    Send,
    Told,
)
from edgepick_host.simulate.turn import Turn
from edgepick_host.simulate.work import fall_back, finish, work
from edgepick_wire import codec
from edgepick_wire.messages import Presence, TargetKind
from edgepick_wire.topics import DeviceTopic

FLOOD_SECONDS = 1.0


def step(device: Identity, state: DeviceState, event: Event) -> tuple[DeviceState, tuple[Action, ...]]:
    """Return the state after ``event``, and what the device does; one that is gone does nothing until it boots."""
    if not (state.online or isinstance(event, Booted)):
        return state, ()
    turn = Turn(device, state, event.now)
    _HANDLERS[type(event)](turn, event)
    if turn.state.online:
        work(turn)
    turn.plan_waking()
    return turn.state, tuple(turn.actions)


def _boot(turn: Turn, _event: Booted) -> None:
    state, device = turn.state, turn.device
    online = device.ailment is not Ailment.OFFLINE
    turn.change(online=online)
    turn.send(DeviceTopic.PRESENCE, Presence(session=state.session, online=online))
    turn.send(DeviceTopic.BIRTH, sayings.birth(device, state.session))
    turn.send(DeviceTopic.REPORTED, sayings.reported(device, state))
    turn.resend()
    if device.ailment is Ailment.VANISHING and state.vanish_at is None:
        within = device.scenario.failures.vanish_seconds
        turn.change(vanish_at=turn.now + within * device.lot("vanish").random())
    if device.ailment is Ailment.FLOODING and state.flood_at is None:
        turn.change(flood_at=turn.now + FLOOD_SECONDS)


def _follow(turn: Turn, event: Told) -> None:
    """Take a desired state that is newer than the last one on its topic; an older one is a replay."""
    own = event.desired.target_kind is TargetKind.DEVICE
    before = turn.state.own if own else turn.state.common
    if before is None or event.desired.sequence > before.sequence:
        turn.change(**{"own" if own else "common": event.desired})


def _acknowledged(turn: Turn, event: Acknowledged) -> None:
    left = {name: payload for name, payload in turn.state.outbox.items() if name not in event.ids}
    if len(left) < len(turn.state.outbox):
        turn.change(outbox=left, resend_at=None)
        if left:
            turn.plan_resending(turn.device.scenario.pace.resend)


def _host(turn: Turn, event: HostSeen) -> None:
    """Send everything again to a host that was not there before."""
    presence = event.presence
    if presence.online and presence.session > turn.state.host_session:
        turn.change(host_session=presence.session)
        turn.resend()


def _obtained(turn: Turn, event: Obtained) -> None:
    asked = turn.state.asked - {event.manifest}
    if event.known is None:
        turn.change(asked=asked, refused=turn.state.refused | {event.manifest})
    else:
        turn.change(asked=asked, known={**turn.state.known, event.manifest: event.known})


def _due(turn: Turn, _event: Due) -> None:
    state, now = turn.state, turn.now
    if state.vanish_at is not None and state.vanish_at <= now:
        turn.vanish()
        return
    if state.task is not None and state.task.due <= now:
        finish(turn, state.task)
    crash = turn.state.crash
    if turn.state.online and crash is not None and crash.at <= now:
        fall_back(turn, crash)
    if turn.state.resend_at is not None and turn.state.resend_at <= now:
        turn.resend()
        turn.plan_resending(turn.state.resend_pause * 2)
    if turn.state.flood_at is not None and turn.state.flood_at <= now:
        _flood(turn)


def _flood(turn: Turn) -> None:
    first, many = turn.state.counter, turn.device.scenario.failures.flood_per_second
    for number in range(first, first + many):
        payload = codec.encode(sayings.flood(turn.device, turn.state, number, turn.now))
        turn.actions.append(Send(kind=DeviceTopic.REPORT, payload=payload, retain=False))
    turn.change(counter=first + many, flood_at=turn.now + FLOOD_SECONDS)


_HANDLERS: Mapping[type[Event], Callable[[Turn, Any], None]] = {
    Booted: _boot,
    Told: _follow,
    Acknowledged: _acknowledged,
    HostSeen: _host,
    Obtained: _obtained,
    Due: _due,
}
