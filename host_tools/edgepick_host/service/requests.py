"""Rollouts as documents in the store, and what operators ask of them from other processes.

A request is a document of its own, so that no process ever overwrites another's: only the
coordinator writes a rollout's state.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from edgepick_host.core.rollout_state import RequestKind, RolloutState
from edgepick_host.errors import StateError
from edgepick_host.ports import Store
from edgepick_host.service.rollout_rows import Head, keep, parse_head, with_members
from edgepick_wire import codec

COORDINATOR_LEASE = "coordinator"
REQUEST_SUFFIX = ".request"
State = TypeVar("State", bound=RolloutState)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an operator asked last of a rollout."""

    id: str
    kind: RequestKind


def load_heads(store: Store) -> tuple[Head, ...]:
    """Return every rollout without its devices, oldest first."""
    documents = ((name, document) for name, document in store.rollouts() if not name.endswith(REQUEST_SUFFIX))
    return tuple(parse_head(document) for _, document in documents)


def load_rollouts(store: Store) -> tuple[RolloutState, ...]:
    """Return every rollout, oldest first."""
    return tuple(with_members(store, head) for head in load_heads(store))


def load_requests(store: Store) -> dict[str, Request]:
    """Return the last request to each rollout that had one."""
    return {
        name.removesuffix(REQUEST_SUFFIX): codec.decode_document(Request, document)
        for name, document in store.rollouts()
        if name.endswith(REQUEST_SUFFIX)
    }


def save_rollout(store: Store, state: RolloutState) -> None:
    """Keep a rollout and every device in it."""
    keep(store, state, None)


def file_request(store: Store, rollout: str, request: Request) -> bool:
    """Keep a request for the coordinator to find; ``False`` if an abort forbids it.

    An abort is the last thing that is asked of a rollout. It may not have been taken in yet, so nothing is put in its
    place; asking for it again changes nothing.
    """
    with store.batch():
        before = load_requests(store).get(rollout)
        if before is not None and before.kind is RequestKind.ABORT:
            return request.kind is RequestKind.ABORT
        store.save_rollout(rollout + REQUEST_SUFFIX, codec.encode_document(request))
    return True


def find_rollout(store: Store, rollout: str | None) -> RolloutState:
    """Return the rollout of this id (its beginning is enough), or the newest.

    Raises:
        StateError: There is none, or several begin so.
    """
    states = load_heads(store)
    found: Sequence[Head] = states[-1:] if rollout is None else [s for s in states if s.id.startswith(rollout)]
    if len(found) == 1:
        return with_members(store, found[0])
    if rollout is None or not states:
        raise StateError("no rollout was ever started", hint="Start one: edgepick rollout start MODEL")
    what = "no rollout has" if not found else "several rollouts have an id that begins with"
    known = ", ".join(s.id for s in states[-5:])
    raise StateError(f"{what} {rollout!r}; the latest are {known}", hint="edgepick rollout status --all lists them.")


def unfinished(store: Store, model: str) -> tuple[RolloutState, ...]:
    """Return the rollouts of ``model`` that have not ended, oldest first: one, and those that wait for its end."""
    return tuple(s for s in load_heads(store) if s.model == model and not s.stage.terminal)


def in_turn(states: Iterable[State]) -> tuple[State, ...]:
    """Return the one rollout of each model whose turn it is: the oldest that is not settled, or else the newest.

    So no two of them ever want different things of one device, and none is forgotten on its way back.
    """
    turn: dict[str, State] = {}
    for state in states:
        if state.model not in turn or turn[state.model].settled:
            turn[state.model] = state
    return tuple(turn.values())


def lease_holder(store: Store, *, now: float) -> str | None:
    """Return who is the fleet's coordinator; ``None`` if nobody is."""
    probe = "nobody"
    holder = store.lease(COORDINATOR_LEASE, probe, now=now, seconds=0.0)
    return None if holder == probe else holder
