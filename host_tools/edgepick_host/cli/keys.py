"""``edgepick keys``: the fleet's signing keys."""

from pathlib import Path

import click

from edgepick_host import app
from edgepick_host.cli import options, render
from edgepick_host.config import LOCAL_FILE
from edgepick_host.core.settings import DEFAULT_KEYS
from edgepick_host.core.trust import ROLES, Keyring, RootChange
from edgepick_host.service.succession import Renewed

root_keys = click.option(
    "--root-key",
    "root_keys",
    metavar="ADDRESS",
    multiple=True,
    help="A root key that signs: file:PATH, env:VARIABLE or exec:COMMAND; several times for several. "
    "[those beside the root document]",
)


@click.group()
def keys() -> None:
    """Make, show and replace the signing keys: root (who may sign), release (models), campaign (what should run)."""


@keys.command("init")
@options.fleet
@click.option("--dir", "folder", type=click.Path(path_type=Path), metavar="DIR", help="Where the keys go. [keys]")
@click.option("--root-keys", "count", type=click.IntRange(1, 16), default=1, metavar="N", help="Root keys to make. [1]")
@click.option(
    "--threshold", type=click.IntRange(1, 16), default=1, metavar="M", help="Root keys that have to sign a change. [1]"
)
@options.as_json
@click.pass_context
def init_command(
    context: click.Context, /, *, fleet: str | None, folder: Path | None, count: int, threshold: int, as_json: bool
) -> None:
    """Make the keys of a new fleet and its root document; nothing is ever overwritten.

    Without a configuration file, one is written beside the folder of the keys.
    """
    settings = options.settings_of(context, fleet=fleet)
    place = folder or Path(DEFAULT_KEYS)
    beside = place.absolute().parent / LOCAL_FILE
    config = None if settings.source or beside.exists() else beside
    made = app.create_keys(place, settings.fleet, root_keys=count, threshold=threshold, config=config)
    if as_json:
        render.print_json(made)
    else:
        _print_keyring(made)
        _print_steps(_after_init(made, count))


@keys.command("show")
@options.key_folder
@options.as_json
@click.pass_context
def show_command(context: click.Context, /, *, key_folder: str | None, as_json: bool) -> None:
    """Show which keys count in this fleet, and which of them this host holds."""
    found = app.show_keys(options.settings_of(context, key_folder=key_folder))
    if as_json:
        render.print_json(found)
    else:
        _print_keyring(found)


@keys.command("rotate")
@click.argument("role", type=click.Choice(list(ROLES)))
@options.key_folder
@root_keys
@click.option(
    "--key",
    "adopt",
    metavar="ADDRESS",
    multiple=True,
    help="The new key, where it is already: file:PATH, env:VARIABLE or exec:COMMAND; repeatable. [a new one is made]",
)
@click.option("--root-keys", "count", type=click.IntRange(1, 16), metavar="N", help="New root keys to make.")
@click.option("--threshold", type=click.IntRange(1, 16), metavar="M", help="New keys that have to sign together.")
@click.option("--keep-old", is_flag=True, help="Let the old keys count as well, until they are revoked.")
@options.as_json
@click.pass_context
def rotate_command(
    context: click.Context,
    /,
    *,
    role: str,
    key_folder: str | None,
    root_keys: tuple[str, ...],
    adopt: tuple[str, ...],
    count: int | None,
    threshold: int | None,
    keep_old: bool,
    as_json: bool,
) -> None:
    """Replace the keys of a role by new ones; devices follow by themselves, however long they were away."""
    if role != "root" and count:
        raise click.UsageError(f"--root-keys makes root keys; several {role} keys are named with --key")
    settings = options.settings_of(context, key_folder=key_folder)
    change = app.rotate_keys(
        settings, role, adopt=adopt, count=count, threshold=threshold, keep_old=keep_old, root_keys=root_keys
    )
    _print_change(change, as_json=as_json)


@keys.command("revoke")
@click.argument("key_id", metavar="KEYID")
@options.key_folder
@root_keys
@options.as_json
@click.pass_context
def revoke_command(
    context: click.Context, /, *, key_id: str, key_folder: str | None, root_keys: tuple[str, ...], as_json: bool
) -> None:
    """Let a key count no more, without a new one in its place."""
    settings = options.settings_of(context, key_folder=key_folder)
    _print_change(app.revoke_key(settings, key_id, root_keys=root_keys), as_json=as_json)


@keys.command("sign-root")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--key", "addresses", metavar="ADDRESS", multiple=True, help="file:PATH, env:VARIABLE or exec:COMMAND.")
@options.key_folder
@options.as_json
@click.pass_context
def sign_root_command(
    context: click.Context, /, *, file: Path, addresses: tuple[str, ...], key_folder: str | None, as_json: bool
) -> None:
    """Add a signature to a root document that waits for some; needs no network.

    Without --key, shows what the document changes and who has signed it. Once enough have, it is in force.
    """
    settings = options.settings_of(context, key_folder=key_folder)
    _print_change(app.sign_root(settings, file, addresses), as_json=as_json)


@keys.command("publish")
@options.host_options
@options.as_json
@click.pass_context
def publish_command(context: click.Context, /, *, as_json: bool, **places: str | None) -> None:
    """Give the broker every version of the root document, and sign what is still wanted with the present keys."""
    done = app.publish_keys(options.settings_of(context, **places))
    if as_json:
        render.print_json(done)
    else:
        _print_renewed(done)


def _print_keyring(found: Keyring) -> None:
    render.print_facts([("fleet", found.fleet), ("root document", f"{found.root_document} (version {found.version})")])
    if found.pending:
        render.print_facts([("pending", f"{found.pending} waits for signatures")])
    rows = [
        (k.role, k.key_id, f"{found.thresholds[k.role]}", k.private_key or "not on this host", k.keep)
        for k in found.keys
    ]
    render.print_table(("role", "key", "needed", "private key", "keep it"), rows)


def _after_init(made: Keyring, count: int) -> list[str]:
    whole, parts = "root.pem off this machine: who has it", "every root-N.pem to a place of its own: who has enough"
    offline = whole if count == 1 else parts
    steps = [
        f"Move {offline} can replace every key of the fleet.",
        f"Copy {made.root_document} to every device; its agent.toml names it as root_document.",
        "Then: edgepick publish DIR --broker mqtt://HOST",
    ]
    return [f"Look through {made.config}, which was written for this fleet.", *steps] if made.config else steps


def _print_change(change: RootChange, *, as_json: bool) -> None:
    if as_json:
        render.print_json(change)
        return
    state = "in force" if change.in_force else "waits for signatures"
    render.print_facts([("root document", f"{change.file} (version {change.version}, {state})")])
    rows = [("+", role, key) for role, key in change.added] + [("-", role, key) for role, key in change.removed]
    render.print_table(("", "role", "key"), rows)
    click.echo(f"signed by: {', '.join(change.signed_by) or 'nobody yet'}")
    _print_steps(_after_change(change) if change.in_force else _to_complete(change))


def _after_change(change: RootChange) -> list[str]:
    steps = [f"Set {key} = {_toml(value)} in edgepick.toml." for key, value in change.settings]
    steps += [f"Keep the new key {path} where its role belongs." for path in change.new_files]
    return [
        *steps,
        "Then, where the release key is: edgepick keys publish (`edgepick publish` does the same).",
        "Devices follow by themselves, and so does a running `edgepick serve`; it says so where it needs a restart.",
        "Build bundles for sticks again: those that a revoked key signed are refused.",
    ]


def _toml(value: str) -> str:
    return value if value.startswith("[") else f'"{value}"'


def _to_complete(change: RootChange) -> list[str]:
    old, new = change.missing
    return [
        f"Signatures still needed: {old} of the present root keys, {new} of those it names; one may count for both.",
        f"Give the file to whoever has one: edgepick keys sign-root {change.file} --key ADDRESS",
    ]


def _print_renewed(done: Renewed) -> None:
    render.print_facts(
        [
            ("fleet", done.fleet),
            ("root document", f"version {done.version}; retained by number: {len(done.chain)}"),
            ("manifests", f"{len(done.manifests)} signed again"),
            ("desired states", f"{done.desired} signed again"),
        ]
    )
    if done.waiting:
        _print_steps([f"{len(done.waiting)} manifests need the release key: run this again where it is."])


def _print_steps(steps: list[str]) -> None:
    click.echo("\nnext:")
    for step in steps:
        click.echo(f"- {step}")
