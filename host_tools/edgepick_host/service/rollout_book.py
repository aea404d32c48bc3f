"""The rollouts that a coordinator works on, in memory: read once, written as they change.

Only the coordinator writes a rollout after its beginning; so what it has in memory holds, and from the store it only
needs rollouts that were begun and requests that were filed since it last looked.
"""

import dataclasses

from edgepick_host.core.rollout_state import RolloutState
from edgepick_host.ports import Store
from edgepick_host.service.requests import Request, in_turn, load_heads, load_requests
from edgepick_host.service.rollout_rows import keep, plain, with_members


class RolloutBook:
    """Every rollout without its devices, and those at work with them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mark = -1
        self._states: dict[str, RolloutState] = {}
        self._whole: dict[str, RolloutState] = {}
        self._requests: dict[str, Request] = {}

    def turn(self) -> tuple[RolloutState, ...]:
        """Return the one rollout of each model whose turn it is, with its devices."""
        self._read()
        names = [state.id for state in in_turn(self._states.values())]
        for name in self._whole.keys() - set(names):
            self._states[name] = dataclasses.replace(self._whole.pop(name), lanes=())
        return tuple(self._load(name) for name in names)

    def request(self, rollout: str) -> Request | None:
        """Return what was asked last of a rollout."""
        return self._requests.get(rollout)

    def save(self, state: RolloutState) -> None:
        """Keep what changed of a rollout that has its turn."""
        before = self._store.marks().rollouts
        keep(self._store, state, self._kept(state.id))
        if (before, self._store.marks().rollouts) == (self._mark, self._mark + 1):
            self._mark += 1  # nobody else wrote meanwhile
        self._states[state.id] = self._whole[state.id] = state

    def _kept(self, rollout: str) -> RolloutState | None:
        """Return the rollout as its rows are; ``None`` where there may be none yet, or others."""
        kept = self._whole.get(rollout)
        return kept if kept is self._states.get(rollout) else None

    def _read(self) -> None:
        mark = self._store.marks().rollouts
        if mark == self._mark:
            return
        self._mark = mark
        for head in load_heads(self._store):
            self._states.setdefault(head.id, plain(head))
        self._requests = load_requests(self._store)

    def _load(self, rollout: str) -> RolloutState:
        if rollout not in self._whole:
            head = next(head for head in load_heads(self._store) if head.id == rollout)
            self._whole[rollout] = with_members(self._store, head)
        return self._whole[rollout]
