"""``edgepick store``: what the host's database keeps."""

from typing import Any

import click

from edgepick_host import app
from edgepick_host.cli import options, render
from edgepick_host.core.retention import LEAST_SECONDS


@click.group()
def store() -> None:
    """Look after the host's database."""


@store.command("prune")
@options.host_options
@click.option(
    "--older-than", callback=options.duration, required=True, metavar="TIME", help="Such as 90d; at least 1d."
)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted.")
@options.as_json
@click.pass_context
def prune_command(context: click.Context, /, *, older_than: float, dry_run: bool, as_json: bool, **places: Any) -> None:
    """Delete old reports that no running rollout and no decision that holds needs; services may go on meanwhile.

    Decisions, rollouts, devices and the audit log stay. `edgepick serve --keep-reports 90d` does the same by itself.
    """
    if older_than < LEAST_SECONDS:
        raise click.BadParameter("reports are kept for at least 1d", param_hint="--older-than")
    done = app.prune_reports(options.settings_of(context, **places), older_than_seconds=older_than, dry_run=dry_run)
    if as_json:
        render.print_json(done)
        return
    what = "would delete" if dry_run else "deleted"
    click.echo(f"{what} {done.removed} reports ({render.size_text(done.size_bytes)}); {done.kept} old ones are needed")
    if done.models:
        render.print_table(("model", "reports"), [(m or render.NOTHING, str(n)) for m, n in done.models.items()])
