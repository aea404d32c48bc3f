"""``edgepick blobs``: what the broker keeps for the devices."""

from collections.abc import Sequence
from typing import Any

import click

from edgepick_host.app.blobs import blobs as kept
from edgepick_host.cli import options, render
from edgepick_host.cli.prune import prune

NAMED = 3
"""Where more devices than these need a variant, their number is told."""


@click.group()
def blobs() -> None:
    """Show what the broker keeps for the devices, and clear what nothing needs any more."""


@blobs.command("list")
@options.host_options
@options.as_json
@click.pass_context
def list_command(context: click.Context, /, *, as_json: bool, **places: Any) -> None:
    """Show the variants that the broker keeps, their sizes, and who needs each."""
    found = kept(options.settings_of(context, **places))
    if as_json:
        render.print_json(found)
        return
    columns = ("model", "version", "variant", "manifest", "size", "chunks", "needed by")
    rows = [
        (
            blob.model,
            blob.version,
            blob.variant,
            render.digest_text(blob.manifest),
            render.size_text(blob.size_bytes),
            str(blob.chunks),
            who_needs(blob.needed_by),
        )
        for blob in found.blobs
    ]
    render.print_table(columns, rows)
    click.echo(f"{len(found.blobs)} variants; {found.chunks} chunks in all, those of the chunk lists included")


def who_needs(who: Sequence[str]) -> str:
    """Return who needs a variant, without a list of half the fleet; ``--json`` names everybody."""
    devices = {name.split()[1] for name in who if name.startswith("device ")}
    if len(devices) > NAMED:
        who = [*(name for name in who if not name.startswith("device ")), f"{len(devices)} devices"]
    return ", ".join(who) or "nobody: may be pruned"


blobs.add_command(prune)
