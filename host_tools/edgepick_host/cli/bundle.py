"""``edgepick bundle``: one variant as a file, for a device without a network."""

from pathlib import Path
from typing import Any

import click

from edgepick_host import app
from edgepick_host.cli import options, render
from edgepick_host.service.bundles import BundleContent
from edgepick_host.service.prepare import Selection

bundle_file = click.argument("file", type=click.Path(path_type=Path), metavar="FILE")


@click.group()
def bundle() -> None:
    """One variant as a file, for a USB stick: the same manifest that publishing would send."""


@bundle.command("build")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--variant", required=True, metavar="NAME", help="Which variant.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="For example v.edgepick.")
@click.option("--version", "version", metavar="LABEL", help="A label for people. [derived from the content]")
@click.option("--epoch", type=click.IntRange(min=0), metavar="N", help="Security epoch; devices never go below it.")
@options.fleet
@options.key_folder
@options.profile_dirs
@options.as_json
@click.pass_context
def build_command(
    context: click.Context,
    /,
    *,
    directory: Path,
    variant: str,
    out: Path,
    version: str | None,
    epoch: int | None,
    as_json: bool,
    **places: Any,
) -> None:
    """Write one variant of DIR as a signed bundle."""
    settings = options.settings_of(context, **places)
    selection = Selection(
        fleet=settings.fleet,
        security_epoch=settings.security_epoch if epoch is None else epoch,
        version=version,
        variants=(variant,),
    )
    _show(out, app.build_bundle(settings, directory, selection=selection, out=out), as_json=as_json)


@bundle.command("inspect")
@bundle_file
@options.as_json
def inspect_command(file: Path, as_json: bool) -> None:
    """Show what a bundle says it holds; nothing is verified."""
    _show(file, app.inspect_bundle(file), as_json=as_json)


@bundle.command("verify")
@bundle_file
@options.key_folder
@options.as_json
@click.pass_context
def verify_command(context: click.Context, file: Path, key_folder: str | None, as_json: bool) -> None:
    """Check a bundle's signature and digests against this host's root document."""
    found = app.verify_bundle(options.settings_of(context, key_folder=key_folder), file)
    _show(file, found, as_json=as_json)
    if not as_json:
        click.echo("verified: signed by the fleet's release key, every digest is right")


def _show(file: Path, content: BundleContent, *, as_json: bool) -> None:
    if as_json:
        render.print_json(content)
        return
    manifest = content.manifest
    render.print_facts(
        [
            ("bundle", f"{file} ({render.size_text(content.size_bytes)})"),
            ("manifest", content.digest),
            ("model", f"{manifest.model} {manifest.version}, variant {manifest.variant}"),
            ("fleet", manifest.fleet),
            ("security epoch", str(manifest.security_epoch)),
            ("profiles", " ".join(manifest.profiles)),
            ("runtimes", ", ".join(r.name.value for r in manifest.runtimes)),
            ("root document", "enclosed" if content.carries_root else "not enclosed"),
            *[(f"file {f.name}", f"{render.size_text(f.size)}, SHA-256 {f.sha256}") for f in manifest.files],
        ]
    )
