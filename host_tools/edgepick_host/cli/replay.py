"""``edgepick replay``: every decision, derived again from the log of reports."""

import click

from edgepick_host import app
from edgepick_host.cli import options, render
from edgepick_host.core.replay import Outcome
from edgepick_host.errors import StateError, VerificationError


@click.command()
@click.argument("model", required=False)
@options.host_options
@click.option("--rollout", "rollout", metavar="ID", help="Only decisions of this rollout.")
@options.as_json
@click.pass_context
def replay(
    context: click.Context, /, *, model: str | None, rollout: str | None, as_json: bool, **places: str | None
) -> None:
    """Derive every decision (about MODEL) again from the log, and compare it bit for bit.

    Exit code 4 if one comes out differently or a record was changed, 1 if its evidence is not in the log. Reports that
    were deleted for their age are no failure: the decisions that rested on them say so.
    """
    found = app.replay_decisions(options.settings_of(context, **places), model)
    mine = tuple(r for r in found if rollout is None or r.rollout.startswith(rollout))
    if not mine:
        raise StateError("there is no decision to replay", hint="Decisions are made by: edgepick rollout start MODEL")
    if as_json:
        render.print_json(mine)
    else:
        rows = [(r.record, r.rollout, r.outcome.value, r.detail or r.decision) for r in mine]
        render.print_table(("record", "rollout", "replayed", "decision"), rows)
        if pruned := sum(r.outcome is Outcome.PRUNED for r in mine):
            click.echo(f"\n{pruned} of {len(mine)} rest on reports that were pruned; the chain of records is intact")
    _conclude([r.outcome for r in mine])


def _conclude(outcomes: list[Outcome]) -> None:
    different, unknown = outcomes.count(Outcome.DIFFERENT), outcomes.count(Outcome.UNKNOWN)
    if different:
        raise VerificationError(
            f"{different} of {len(outcomes)} decisions come out differently",
            hint="The log was changed by something else than edgepick, or the program decides otherwise now.",
        )
    if unknown:
        raise StateError(
            f"{unknown} of {len(outcomes)} decisions cannot be derived: what they depended on is not in the log",
            hint="Restore the database that they were made with.",
        )
