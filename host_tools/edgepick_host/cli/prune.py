"""``edgepick prune``: clear what no device needs from the broker."""

from typing import Any

import click

from edgepick_host import app
from edgepick_host.cli import options, render


@click.command()
@options.host_options
@click.option("--dry-run", is_flag=True, help="Show what would be cleared.")
@options.as_json
@click.pass_context
def prune(context: click.Context, /, *, dry_run: bool, as_json: bool, **places: Any) -> None:
    """Clear manifests and chunks that no desired state, rollout or newest version needs from the broker.

    Devices lose nothing that they hold. A version that was cleared comes back by publishing it again.
    """
    done = app.prune(options.settings_of(context, **places), dry_run=dry_run)
    if as_json:
        render.print_json(done)
        return
    what = "would clear" if dry_run else "cleared"
    click.echo(f"{what} {len(done.releases)} releases and {done.chunks} chunks; {done.kept} chunks stay")
    if done.releases:
        render.print_table(
            ("model", "version", "variant", "manifest"),
            [(r.model, r.version, r.variant, render.digest_text(r.manifest)) for r in done.releases],
        )
