"""A rollout as the store keeps it: one document for all of it, and a row for each device, written when that changes.

Documents of older versions, which hold the devices themselves, are read all the same; the first time that such a
rollout is kept again, its devices become rows.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from edgepick_host.core.records import MemberRow
from edgepick_host.core.rollout_state import RolloutState
from edgepick_host.core.waves import Member, MemberStatus, count
from edgepick_host.ports import Store
from edgepick_wire import codec
from edgepick_wire.limits import MAX_OWN_ITEMS

REMEMBERED = 20_000
"""Rows that stay parsed: those of two large rollouts, a few MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many devices a rollout has, and how far they are."""

    devices: int
    reached: int
    confirmed: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head(RolloutState):
    """A rollout without its devices.

    Attributes:
        seats: How many rows each lane has; ``None`` in a document that holds the devices itself.
        tally: What they come to; ``None`` likewise.
        previous: Every manifest that some device may have to go back to.
    """

    seats: tuple[int, ...] | None = None
    tally: Tally | None = None
    previous: tuple[str, ...] = ()


def keep(store: Store, state: RolloutState, before: RolloutState | None) -> None:
    """Keep a rollout and those of its devices that are others than in ``before``, which is kept already."""
    store.save_rollout(state.id, codec.encode_document(_head(state)), _rows(state, before))


def tally(state: RolloutState) -> Tally:
    """Return how many devices a rollout has, and how far they are."""
    if isinstance(state, Head) and state.tally is not None:
        return state.tally
    members = state.members
    return Tally(
        devices=len(members),
        reached=sum(m.touched for m in members),
        confirmed=count(members, MemberStatus.CONFIRMED),
        failed=count(members, MemberStatus.FAILED),
    )


def rollouts_of(store: Store, device: str) -> frozenset[str]:
    """Return the rollouts whose rows say that they offered a device anything."""
    return frozenset(name for name, document in store.memberships(device) if parse_member(document).touched)


def _head(state: RolloutState) -> Head:
    parts = {f.name: getattr(state, f.name) for f in dataclasses.fields(RolloutState)}
    parts["lanes"] = tuple(dataclasses.replace(lane, members=()) for lane in state.lanes)
    return Head(
        **parts,
        seats=tuple(len(lane.members) for lane in state.lanes),
        tally=tally(state),
        previous=tuple(sorted({m.previous for m in state.members if m.previous is not None})),
    )


def _rows(state: RolloutState, before: RolloutState | None) -> list[MemberRow]:
    found = []
    for number, lane in enumerate(state.lanes):
        kept = before.lanes[number].members if before and number < len(before.lanes) else ()
        if lane.members is not kept:
            found += [
                MemberRow(lane=number, place=place, device=m.device, document=codec.encode_document(m))
                for place, m in enumerate(lane.members)
                if place >= len(kept) or kept[place] is not m
            ]
    return found


@lru_cache(maxsize=256)
def parse_head(document: bytes) -> Head:
    """Return what a rollout's document holds; the same few are read again and again."""
    return codec.decode_document(Head, document, max_items=MAX_OWN_ITEMS)


def with_members(store: Store, head: Head) -> RolloutState:
    """Return a rollout with its devices."""
    if head.seats is None or not any(head.seats):
        return plain(head)
    return _seated(head, store.members(head.id))


def _seated(head: Head, rows: Sequence[MemberRow]) -> RolloutState:
    members: list[list[Member]] = [[] for _ in head.lanes]
    for row in rows:
        if row.lane < len(members) and row.place < (head.seats or ())[row.lane]:
            members[row.lane].append(parse_member(row.document))
    lanes = tuple(
        dataclasses.replace(lane, members=tuple(each)) for lane, each in zip(head.lanes, members, strict=True)
    )
    return plain(dataclasses.replace(head, lanes=lanes))


def plain(head: Head) -> RolloutState:
    """Return a rollout without what only its document says."""
    return RolloutState(**{f.name: getattr(head, f.name) for f in dataclasses.fields(RolloutState)})


@lru_cache(maxsize=REMEMBERED)
def parse_member(document: bytes) -> Member:
    """Return the device in a row; most rows stay the same from one look to the next."""
    return codec.decode_document(Member, document)
