"""``edgepick broker``: a broker of one's own, with TLS, certificates and an access list."""

from pathlib import Path

import click

from edgepick_host.app import broker as app
from edgepick_host.app import sites
from edgepick_host.cli import options, render
from edgepick_host.core.broker_access import BrokerKind

DEFAULT_DIR = Path("broker")
folder_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIR,
    show_default=True,
    help="Where authority, configuration and certificates lie.",
)


@click.group()
def broker() -> None:
    """Set up a broker with TLS, a private authority, and an access list for devices."""


@broker.command("init")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Name or address of the broker; several times.")
@folder_option
@click.option(
    "--kind",
    type=click.Choice([k.value for k in BrokerKind]),
    default="mosquitto",
    show_default=True,
    help="Whose configuration to write.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8883, show_default=True, help="Where it listens.")
@click.option("--at", default="", metavar="PATH", help="Where DIR/server will lie on the broker. [where it is made]")
@options.fleet
@options.as_json
@click.pass_context
def init_command(
    context: click.Context,
    *,
    hosts: tuple[str, ...],
    folder: Path,
    kind: str,
    port: int,
    at: str,
    fleet: str | None,
    as_json: bool,
) -> None:
    """Write a production configuration of a broker; an authority that exists is never replaced."""
    settings = options.settings_of(context, fleet=fleet)
    names = hosts or ("localhost", "127.0.0.1")
    made = app.init_broker(folder, settings.fleet, names, kind=BrokerKind(kind), port=port, place=at.rstrip("/"))
    if as_json:
        render.print_json(made)
        return
    render.print_facts(
        [("fleet", made.plan.fleet), ("broker", f"{', '.join(names)}, port {port}"), ("written", made.server)]
    )
    click.echo(
        f"\nnext:\n- Copy {made.server} to {made.plan.place} on the broker's machine (docs/broker.md).\n"
        f"- Keep {made.authority} to yourself: who has it can make himself any device.\n"
        f"- Put this into edgepick.toml:\n\n{made.settings}\n"
        "- For each device: edgepick devices enroll ID"
    )


@broker.command("bridge")
@click.argument("site", metavar="SITE")
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME", help="Name or address of the site's broker; several times."
)
@folder_option
@click.option("--port", type=click.IntRange(1, 65535), default=8883, show_default=True)
@click.option(
    "--at", default="", metavar="PATH", help="Where DIR/sites/SITE will lie on its machine. [where it is made]"
)
@options.as_json
def bridge_command(*, site: str, hosts: tuple[str, ...], folder: Path, port: int, at: str, as_json: bool) -> None:
    """Write a mosquitto for SITE, bridged to the central broker: devices there speak to it alone.

    Every chunk crosses the uplink once for the whole site, and what devices say waits while the uplink is down.
    """
    made = sites.add_site(folder, site, hosts or ("localhost", "127.0.0.1"), port=port, place=at.rstrip("/"))
    if as_json:
        render.print_json(made)
        return
    render.print_facts([("site", site), ("broker", f"{made.site.hosts[0]}, port {port}"), ("written", made.folder)])
    click.echo(
        f"\nnext:\n- Copy {made.acl} to the central broker, and restart it: it knows the site now (docs/broker.md).\n"
        f"- Copy {made.folder} to {made.site.place} on the site's broker, and start mosquitto there.\n"
        f"- For each device of the site: edgepick devices enroll ID --site {site}"
    )


@broker.command("renew")
@folder_option
@options.as_json
def renew_command(*, folder: Path, as_json: bool) -> None:
    """Give broker and host new certificates for the keys that they have; devices need nothing."""
    plan = app.renew_broker(folder)
    if as_json:
        render.print_json(plan)
    else:
        click.echo(f"renewed; copy {folder / 'server' / 'server.pem'} to {plan.place} and restart the broker")
