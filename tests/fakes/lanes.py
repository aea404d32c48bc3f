"""Strata of a rollout as a decision leaves them."""

from edgepick_host.core.decision import Judgement
from edgepick_host.core.waves import Lane, Member


def promoted(winner: str, members: tuple[Member, ...] = (), **others: object) -> Lane:
    """Return a stratum for which a variant was promoted: of Pis, unless ``others`` says otherwise."""
    usual = {"profile": "pi", "label": "pi", "winner_label": "new", "reason": "test"}
    return Lane(stand_in=True, verdict=Judgement.PROMOTE, winner=winner, members=members, **usual | others)
