"""``edgepick compress``: one float model in, variants for kinds of devices out."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgepick_host import app
from edgepick_host.cli.render import console, print_json
from edgepick_host.compress.request import CompressRequest
from edgepick_host.core.variants import VARIANTS_FILE, Rejection, Variant, VariantSet
from edgepick_profiles.load import load_profile
from edgepick_profiles.schema import KNOWN_RECIPES

_FILE = click.Path(path_type=Path)


def accuracy_drop(context: click.Context, option: click.Parameter, text: str) -> float:
    """Return the share that ``1%``, ``1pp`` (both one percentage point, absolute) or ``0.01`` stands for.

    Raises:
        click.BadParameter: None of these, or out of 0 to 100 points.
    """
    del context, option
    unit = next((unit for unit in ("%", "pp") if text.strip().endswith(unit)), "")
    try:
        share = float(text.strip().removesuffix(unit)) / (100 if unit else 1)
    except ValueError:
        share = -1.0
    # A bare 1 could mean one point or everything: ask instead of guessing.
    if not 0 <= share <= 1 or (not unit and share == 1):
        raise click.BadParameter(f"{text!r}: write percentage points as 1% or 1pp, or a share as 0.01")
    return share


@click.command()
@click.argument("models", nargs=-1, required=True, type=_FILE, metavar="MODEL...")
@click.option("--profile", "profiles", multiple=True, required=True, metavar="NAME", help="A kind of device; repeat.")
@click.option("--calibration", required=True, type=_FILE, help=".npz with x: samples to calibrate on.")
@click.option("--evaluation", required=True, type=_FILE, help=".npz with x and labels y: samples to evaluate on.")
@click.option("--out", required=True, type=_FILE, help="Folder of the result.")
@click.option(
    "--max-accuracy-drop",
    callback=accuracy_drop,
    default="1%",
    show_default=True,
    metavar="DROP",
    help="Largest loss in percentage points of accuracy, absolute: 1% (or 1pp, or 0.01) lets 97 % fall to 96 %. "
    "Without labels: largest share of answers that differ from the float model's.",
)
@click.option("--name", default="", help="Name of the model; made from the file name if not given.")
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    type=click.Choice(tuple(KNOWN_RECIPES)),
    help="Try this recipe instead of those that the profiles name; repeat.",
)
@click.option("--profiles", "directories", multiple=True, type=_FILE, metavar="DIR", help="Your own profiles; repeat.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Chooses the golden samples.")
@click.option("--force", is_flag=True, help="Move a foreign folder at --out aside instead of refusing.")
@click.option("--json", "as_json", is_flag=True, help="Print the content of variants.json.")
@click.pass_context
def compress(
    context: click.Context,
    /,
    *,
    models: tuple[Path, ...],
    profiles: tuple[str, ...],
    calibration: Path,
    evaluation: Path,
    out: Path,
    max_accuracy_drop: float,
    name: str,
    recipes: tuple[str, ...],
    directories: tuple[Path, ...],
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Compress a float model for kinds of devices, and keep what is good enough.

    MODEL is a .tflite or .onnx file with float32 weights and a batch of 1; give the same network in both formats to
    serve profiles of either. Exits with 1 if some profile is left without any variant.
    """
    request = CompressRequest(
        models=models,
        profiles=tuple(load_profile(each, directories=directories) for each in dict.fromkeys(profiles)),
        calibration=calibration,
        evaluation=evaluation,
        out=out,
        max_accuracy_drop=max_accuracy_drop,
        name=name,
        recipes=tuple(dict.fromkeys(recipes)),
        seed=seed,
        force=force,
    )
    progress = Console(stderr=True)
    found = app.compress_model(request, say=lambda line: progress.print(line, style="dim", markup=False))
    if as_json:
        print_json(found)
    else:
        _print(console(), found, out)
    context.exit(1 if left_out(found) else 0)


def left_out(found: VariantSet) -> tuple[str, ...]:
    """Return the profiles that no variant is offered to."""
    served = {profile for variant in found.variants for profile in variant.profiles}
    return tuple(profile for profile in found.profiles if profile not in served)


def _print(screen: Console, found: VariantSet, out: Path) -> None:
    for profile in found.profiles:
        screen.print(_table(found, profile))
        for rejection in found.rejections:
            if rejection.profile == profile:
                screen.print(_line(rejection), soft_wrap=True)
        screen.print()
    reference = "" if found.float_accuracy is None else f"float accuracy {found.float_accuracy:.2%}; "
    screen.print(f"{reference}* on the Pareto front of quality, size and host latency", style="dim", highlight=False)
    screen.print(f"{len(found.variants)} variants in {out / VARIANTS_FILE}", highlight=False, soft_wrap=True)
    for profile in left_out(found):
        screen.print(f"no variant is left for {profile}", style="bold red", highlight=False)


def _table(found: VariantSet, profile: str) -> Table:
    table = Table(title=profile, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    table.add_column("")
    table.add_column("variant", overflow="fold", min_width=20)
    for name in ("bytes", "zipped", "accuracy", "agreed", "host ms", "arena"):
        table.add_column(name, justify="right", no_wrap=True)
    for variant in found.variants:
        if profile in variant.profiles:
            table.add_row("*" if profile in variant.pareto else "", *_figures(variant))
    return table


def _figures(variant: Variant) -> tuple[str, ...]:
    quality = variant.quality
    return (
        variant.name,
        f"{variant.size_bytes:,}",
        f"{variant.compressed_bytes:,}",
        "-" if quality.accuracy is None else f"{quality.accuracy:.2%}",
        f"{quality.agreement:.2%}",
        f"{variant.host_latency_ns / 1e6:.3f}",
        "-" if variant.arena_bytes is None else f"{variant.arena_bytes:,}",
    )


def _line(rejection: Rejection) -> Text:
    return Text.assemble(
        ("  not ", "dim"), rejection.recipe, ": ", (rejection.code.value, "yellow"), f": {rejection.reason}"
    )
