"""Strata of a rollout as a decision leaves them."""

from edgepick_host.core.decision import Judgement
from edgepick_host.core.waves import Lane, Member


def promoted(winner: str, members: tuple[Member, ...], *, label: str = "pi", winner_label: str = "new") -> Lane:
    """Return a stratum of Pis for which a variant was promoted."""
    return Lane(
        profile="pi",
        label=label,
        stand_in=True,
        verdict=Judgement.PROMOTE,
        winner=winner,
        winner_label=winner_label,
        reason="test",
        members=members,
    )
