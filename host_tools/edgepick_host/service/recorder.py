"""Keeps decisions: each once per rollout, chained to the one before it.

Only the coordinator appends to the log of decisions, so its end and what a rollout has decided are read once.
"""

from edgepick_host.core.decision import FIRST, Decision, DecisionRecord, Judgement, parse_record, plain_decision
from edgepick_host.core.decision import record_after as record
from edgepick_host.core.rollout_state import RolloutState
from edgepick_host.core.strata import Stratum
from edgepick_host.core.waves import Lane
from edgepick_host.ports import Clock, Store
from edgepick_wire.ids import digest_of


class Recorder:
    """The one writer of decisions in a coordinator."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._last: str | None = None
        self._kept: dict[str, dict[str, DecisionRecord]] = {}

    def record(self, state: RolloutState, decision: Decision) -> DecisionRecord:
        """Return the record of a decision, kept now unless the same one of this rollout is already."""
        kept = self._of(state.id)
        if decision.inputs not in kept:
            document = record(self._last or FIRST, decision, rollout=state.id, decided_at=self._clock.now())
            self._store.append_decision(state.model, document)
            self._last = digest_of(document)
            kept[decision.inputs] = parse_record(document)
        return kept[decision.inputs]

    def record_harm(self, state: RolloutState) -> None:
        """Keep that the winner of each lane did harm."""
        for lane in state.lanes:
            if lane.active:
                self.record(state, _harm_decision(state, lane))

    def _of(self, rollout: str) -> dict[str, DecisionRecord]:
        """Return what a rollout has decided, by the digest of what that depended on."""
        if self._last is None or rollout not in self._kept:
            documents = [document for _, document in self._store.decisions()]
            self._last = digest_of(documents[-1]) if documents else FIRST
            named = (parse_record(d) for d in documents if rollout.encode() in d)
            self._kept[rollout] = {r.decision.inputs: r for r in named if r.rollout == rollout}
        return self._kept[rollout]


def _harm_decision(state: RolloutState, lane: Lane) -> Decision:
    members = tuple(m.device for m in lane.members)
    return plain_decision(
        model=state.model,
        stratum=Stratum(profile=lane.profile, stand_in=lane.stand_in, devices=members),
        verdict=Judgement.ROLLBACK,
        reasons=(state.reason,),
        policy=state.plan.policy,
        winner_label="what each device ran before",
        harmful=lane.winner,
        harmful_label=lane.winner_label,
    )
