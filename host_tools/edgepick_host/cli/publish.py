"""``edgepick publish``: sign variants and hand them to the broker."""

import sys
from pathlib import Path
from typing import Any

import click

from edgepick_host import app
from edgepick_host.cli import options, render
from edgepick_host.core.release import AUTO, NONE
from edgepick_host.service.prepare import Selection
from edgepick_host.service.publisher import Activation, Publication


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@options.host_options
@options.profile_dirs
@click.option("--version", "version", metavar="LABEL", help="A label for people. [derived from the content]")
@click.option("--profile", "profiles", metavar="NAME", multiple=True, help="Only for this kind of device; repeatable.")
@click.option("--variant", "variants", metavar="NAME", multiple=True, help="Only this variant; repeatable.")
@click.option("--all", "everything", is_flag=True, help="Every variant, not only those on a profile's Pareto front.")
@click.option(
    "--activate",
    metavar="auto|none|VARIANT",
    default=AUTO,
    show_default=True,
    help="What to run: auto gives the best by this host's figures to those that run nothing yet.",
)
@click.option("--measure/--no-measure", default=True, help="Let the devices measure every variant. [on]")
@click.option("--epoch", type=click.IntRange(min=0), metavar="N", help="Security epoch; devices never go below it.")
@click.option("--device", "devices", metavar="ID", multiple=True, help="Tell this device instead of its kind.")
@click.option("--republish", is_flag=True, help="Send every chunk, also those this broker was given before.")
@click.option(
    "--max-bytes",
    type=click.IntRange(min=0),
    metavar="N",
    help="Devices that would have to fetch more refuse to install or to measure it. [no limit]",
)
@click.option("--plain", is_flag=True, help="Send the files as they are only, neither compressed nor as differences.")
@click.option(
    "--upload",
    type=click.FloatRange(min=1.0),
    metavar="SIZES",
    help="Most that is sent of a file, in sizes of that file: more lets differences go besides. [1.05]",
)
@click.option(
    "--source",
    "sources",
    metavar="URL",
    multiple=True,
    help="Devices may find the files there too: https://.../{sha256} (or {name}); repeatable.",
)
@click.option("--check-sources/--no-check-sources", default=True, help="Look whether they are there. [on]")
@click.option("--dry-run", is_flag=True, help="Show what would happen; ask no broker and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before --activate VARIANT.")
@options.as_json
@click.pass_context
def publish(
    context: click.Context,
    /,
    *,
    directory: Path,
    version: str | None,
    profiles: tuple[str, ...],
    variants: tuple[str, ...],
    everything: bool,
    activate: str,
    measure: bool,
    epoch: int | None,
    devices: tuple[str, ...],
    republish: bool,
    max_bytes: int | None,
    plain: bool,
    upload: float | None,
    sources: tuple[str, ...],
    check_sources: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **places: Any,
) -> None:
    """Sign the variants in DIR, publish them, and tell the devices.

    DIR is what `edgepick compress --out` wrote. Of its variants, those go out that no other one beats
    in every respect; devices measure each of them. Everything is retained by the broker: this host may
    be off when a device comes up. Publishing again publishes nothing twice.
    """
    settings = options.settings_of(context, **places)
    selection = Selection(
        fleet=settings.fleet,
        security_epoch=settings.security_epoch if epoch is None else epoch,
        version=version,
        profiles=profiles,
        variants=variants,
        everything=everything,
        plain=plain,
        upload=upload,
        sources=sources,
    )
    _confirm(activate, asked=not (yes or dry_run or as_json))
    with render.transfer_progress(quiet=as_json) as on_progress:
        done = app.publish(
            settings,
            directory,
            selection=selection,
            activation=Activation(activate=activate, measure=measure, devices=devices, max_bytes=max_bytes),
            republish=republish,
            dry_run=dry_run,
            check_sources=check_sources,
            on_progress=on_progress,
        )
    if as_json:
        render.print_json(done)
    else:
        _print_publication(done)


def _confirm(activate: str, *, asked: bool) -> None:
    named = activate not in (AUTO, NONE)
    if named and asked and sys.stdin.isatty():
        click.confirm(f"Activate {activate} at once, without a rollout?", abort=True, err=True)


def _print_publication(done: Publication) -> None:
    what = "would publish" if done.dry_run else "published"
    click.echo(
        f"{what} {done.model} {done.version} to fleet {done.fleet}: {render.size_text(done.bytes_sent)} of new chunks"
    )
    render.print_table(
        ("variant", "manifest", "size", "new", "known", "profiles"),
        [
            (
                v.variant,
                render.digest_text(v.manifest),
                render.size_text(v.size_bytes),
                str(v.chunks_new),
                str(v.chunks_known),
                " ".join(v.profiles),
            )
            for v in done.variants
        ],
    )
    names = {v.manifest: v.variant for v in done.variants}
    render.print_table(
        ("target", "kind", "sequence", "runs", "measures"),
        [
            (
                t.target,
                t.kind.value,
                f"{t.sequence or render.NOTHING}{'' if t.changed else ' (unchanged)'}",
                names.get(t.active or "", render.digest_text(t.active)),
                str(t.measure),
            )
            for t in done.targets
        ],
    )
