"""``edgepick keys``: the fleet's signing keys."""

from pathlib import Path

import click

from edgepick_host import app
from edgepick_host.cli import options, render
from edgepick_host.config import LOCAL_FILE
from edgepick_host.core.settings import DEFAULT_KEYS
from edgepick_host.core.trust import Keyring


@click.group()
def keys() -> None:
    """Make and show the signing keys: root (who may sign), release (models), campaign (what devices should run)."""


@keys.command("init")
@options.fleet
@click.option("--dir", "folder", type=click.Path(path_type=Path), metavar="DIR", help="Where the keys go. [keys]")
@options.as_json
@click.pass_context
def init_command(context: click.Context, fleet: str | None, folder: Path | None, as_json: bool) -> None:
    """Make the three keys of a new fleet and its root document; nothing is ever overwritten.

    Without a configuration file, one is written beside the folder of the keys.
    """
    settings = options.settings_of(context, fleet=fleet)
    place = folder or Path(DEFAULT_KEYS)
    beside = place.absolute().parent / LOCAL_FILE
    config = None if settings.source or beside.exists() else beside
    made = app.create_keys(place, settings.fleet, config=config)
    if as_json:
        render.print_json(made)
    else:
        _print_keyring(made)
        _print_next_steps(made)


@keys.command("show")
@options.key_folder
@options.as_json
@click.pass_context
def show_command(context: click.Context, key_folder: str | None, as_json: bool) -> None:
    """Show which keys count in this fleet, and which of them this host holds."""
    found = app.show_keys(options.settings_of(context, key_folder=key_folder))
    if as_json:
        render.print_json(found)
    else:
        _print_keyring(found)


def _print_keyring(found: Keyring) -> None:
    render.print_facts([("fleet", found.fleet), ("root document", f"{found.root_document} (version {found.version})")])
    rows = [(k.role, k.key_id, k.private_key or "not on this host", k.keep) for k in found.keys]
    render.print_table(("role", "key", "private key", "keep it"), rows)


def _print_next_steps(made: Keyring) -> None:
    steps = [
        "Move root.pem off this machine: who has it can replace every key of the fleet.",
        f"Copy {made.root_document} to every device; its agent.toml names it as root_document.",
        "Then: edgepick publish DIR --broker mqtt://HOST",
    ]
    if made.config:
        steps.insert(0, f"Look through {made.config}, which was written for this fleet.")
    click.echo("\nnext:")
    for step in steps:
        click.echo(f"- {step}")
