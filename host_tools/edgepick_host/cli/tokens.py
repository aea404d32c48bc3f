"""``edgepick tokens``: who may use the service's API and page."""

import click

from edgepick_host import app
from edgepick_host.cli import options, render
from edgepick_host.core.records import Role
from edgepick_wire.ids import check_name


@click.group()
def tokens() -> None:
    """Access to the service's API and page."""


@tokens.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.VIEWER.value, show_default=True)
@options.host_options
@options.as_json
@click.pass_context
def add_command(context: click.Context, /, *, name: str, role: str, as_json: bool, **places: str | None) -> None:
    """Make a token for NAME and print it, once; only its digest is kept."""
    settings = options.settings_of(context, **places)
    secret = app.add_token(settings, check_name("token", name), Role(role))
    if as_json:
        render.print_json({"name": name, "role": role, "token": secret})
        return
    click.echo(secret)
    click.echo(f"{name} is {role}; keep the token, it is shown only now", err=True)


@tokens.command("list")
@options.host_options
@options.as_json
@click.pass_context
def list_command(context: click.Context, /, *, as_json: bool, **places: str | None) -> None:
    """List who has a token."""
    found = app.tokens(options.settings_of(context, **places))
    if as_json:
        render.print_json([{"name": t.name, "role": t.role, "created_at": t.created_at} for t in found])
        return
    rows = [(t.name, t.role.value, render.time_text(t.created_at)) for t in found]
    render.print_table(("name", "role", "since"), rows)


@tokens.command("revoke")
@click.argument("name")
@options.host_options
@options.as_json
@click.pass_context
def revoke_command(context: click.Context, /, *, name: str, as_json: bool, **places: str | None) -> None:
    """Take a token away; a running service refuses it within seconds."""
    app.revoke_token(options.settings_of(context, **places), name)
    if as_json:
        render.print_json({"name": name, "revoked": True})
        return
    click.echo(f"{name} has no access any more")
