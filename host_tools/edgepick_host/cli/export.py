"""``edgepick export``: a variant as sources for the firmware of a microcontroller."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepick_host import app
from edgepick_host.cli import options, render

if TYPE_CHECKING:
    from edgepick_host.compress.export_c import Exported

MOST_SAMPLES = 16
"""The self-test of a result holds no more."""

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("folder", type=_FOLDER, metavar="DIR")
@click.argument("variant")
@click.option("--out", required=True, type=_FOLDER, metavar="FOLDER", help="Folder for the sources.")
@click.option("--prefix", default="", metavar="NAME", help="Of files and C names; default: the model's name.")
@click.option(
    "--samples",
    type=click.IntRange(1, MOST_SAMPLES),
    default=4,
    show_default=True,
    help="Golden vectors: inputs with the reference kernels' answers.",
)
@click.option("--force", is_flag=True, help="Move a foreign folder at --out aside instead of refusing.")
@options.as_json
def export(*, folder: Path, variant: str, out: Path, prefix: str, samples: int, force: bool, as_json: bool) -> None:
    """Write a VARIANT of DIR as C sources for tflite-micro: model, arena size, operators, golden vectors, a main.

    The model is run in tflite-micro first, and has to answer as the reference kernels do.
    """
    done = app.export_c(folder, variant, out, prefix=prefix, samples=samples, force=force, say=_say)
    if as_json:
        render.print_json(done)
    else:
        _print(done, out)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _print(done: "Exported", out: Path) -> None:
    margin = done.arena_with_margin_bytes - done.arena_bytes
    render.print_facts(
        [
            ("model", f"{done.model_bytes:,} bytes of flash"),
            (
                "arena",
                f"{done.arena_with_margin_bytes:,} bytes of RAM: {done.arena_bytes:,} measured, {margin:,} margin",
            ),
            ("operators", ", ".join(done.operators)),
            ("golden", f"{done.golden_vectors} vectors; tflite-micro within {done.max_steps} steps of the reference"),
            ("written", f"{len(done.files)} files in {out}; start with README.md"),
        ]
    )
