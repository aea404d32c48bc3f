"""``edgepick devices enroll`` and ``expel``: who has a certificate that the broker lets in."""

from pathlib import Path

import click

from edgepick_host.app import broker as app
from edgepick_host.cli import options, render
from edgepick_host.cli.broker import folder_option


@click.command("enroll")
@click.argument("device", metavar="ID")
@folder_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="[DIR/devices/ID]")
@click.option("--profile", default="generic-linux", show_default=True, help="The kind of device.")
@click.option("--site", metavar="NAME", help="It speaks to the broker of this site. [the central one]")
@click.option("--renew", is_flag=True, help="A new certificate for the same key; nothing else changes on the device.")
@click.option(
    "--archive",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="All of it as one tar file too, for a stick; it holds the key.",
)
@options.key_folder
@options.as_json
@click.pass_context
def enroll(
    context: click.Context,
    *,
    device: str,
    folder: Path,
    out: Path | None,
    profile: str,
    site: str | None,
    renew: bool,
    archive: Path | None,
    key_folder: str | None,
    as_json: bool,
) -> None:
    """Make a device's key and certificate, in a folder that is ready to be copied to it."""
    settings = options.settings_of(context, key_folder=key_folder)
    made = app.enroll(settings, folder, device, profile=profile, site=site, out=out, renew=renew, archive=archive)
    if as_json:
        render.print_json(made)
        return
    if made.set_aside is not None:
        click.echo(f"{device} was enrolled before; what its agent.toml said then is in {made.set_aside}")
    if archive is not None:
        click.echo(f"{device}: copy {archive} to the device; there: sudo tar -xf {archive.name} -C /etc/edgepick")
    elif renew:
        click.echo(f"renewed; copy {made.folder}/device.pem to the device, where it counts at the next connection")
    else:
        click.echo(f"enrolled {device}; copy {made.folder} to /etc/edgepick on the device")


@click.command("expel")
@click.argument("device", metavar="ID")
@folder_option
@options.as_json
def expel(*, device: str, folder: Path, as_json: bool) -> None:
    """Revoke every certificate of a device; the broker must get the new list and be restarted."""
    written = app.expel(folder, device)
    if as_json:
        render.print_json({"device": device, "revocations": str(written)})
    else:
        click.echo(f"expelled {device}; copy {written} to the broker and restart it")
