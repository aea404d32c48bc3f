"""``edgepick compress``: one float model in, variants for kinds of devices out."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from edgepick_host import app
from edgepick_host.cli.render import console, print_json
from edgepick_host.compress.request import CompressRequest, cache_folder
from edgepick_host.core.recipe_names import RECIPE_GRAMMAR, parse
from edgepick_host.core.search_record import SearchRecord
from edgepick_host.core.variants import VARIANTS_FILE, Quality, Rejection, RejectionCode, Variant, VariantSet
from edgepick_profiles.load import load_profile
from edgepick_wire.manifest import ModelFormat

CORESETS = ("k_means", "k_center", "stratified")
MOST_SECONDS = 30 * 24 * 3600.0

_FILE = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A tolerated loss, as it was written.

    Attributes:
        share: 0.01 is one point, or one per cent.
        relative: Of the float model's accuracy.
    """

    share: float
    relative: bool


def accuracy_drop(context: click.Context, option: click.Parameter, text: str) -> Drop:
    """Return what ``1%``, ``1pp`` (both one percentage point), ``0.01`` or ``1%rel`` stands for.

    Raises:
        click.BadParameter: None of these, or out of 0 to 100 points.
    """
    del context, option
    bare = text.strip().removesuffix("rel").strip()
    relative = bare != text.strip()
    unit = next((unit for unit in ("%", "pp") if bare.endswith(unit)), "")
    try:
        share = float(bare.removesuffix(unit)) / (100 if unit else 1)
    except ValueError:
        share = -1.0
    # A bare 1 could mean one point or everything: ask instead of guessing.
    if not 0 <= share <= 1 or (not unit and share == 1) or (relative and unit == "pp"):
        raise click.BadParameter(
            f"{text!r}: write percentage points as 1% or 1pp, a share as 0.01, "
            "or a share of the float model's accuracy as 1%rel"
        )
    return Drop(share=share, relative=relative)


def duration(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Return the seconds that ``90s``, ``10m``, ``1.5h`` or a bare number of seconds stands for.

    Raises:
        click.BadParameter: None of these, or not above 0.
    """
    del context, option
    if text is None:
        return None
    unit = text.strip()[-1:].lower()
    try:
        seconds = float(text.strip().rstrip("smhSMH")) * {"s": 1, "m": 60, "h": 3600}.get(unit, 1)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < MOST_SECONDS:
        raise click.BadParameter(f"{text!r}: write a time as 90s, 10m or 1.5h")
    return seconds


def executor_address(context: click.Context, option: click.Parameter, text: str) -> str:
    """Return ``dask://HOST:PORT``, checked.

    Raises:
        click.BadParameter: Anything else.
    """
    del context, option
    if text and not re.fullmatch(r"dask://[^/:\s]+:\d{1,5}", text):
        raise click.BadParameter(f"{text!r}: expected dask://HOST:PORT, the scheduler of a Dask cluster")
    return text


def recipe_names(context: click.Context, option: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names, each once, if every one is a recipe in some format.

    Raises:
        click.BadParameter: An unknown name.
    """
    del context, option
    for name in names:
        if all(parse(name, model_format) is None for model_format in ModelFormat):
            raise click.BadParameter(f"{name!r} is no recipe. {RECIPE_GRAMMAR}")
    return tuple(dict.fromkeys(names))


@click.command()
@click.argument("models", nargs=-1, type=_FILE, metavar="[MODEL...]")
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
    "1%rel is a share of the float model's accuracy. "
    "Without labels: largest share of answers that differ from the float model's.",
)
@click.option("--name", default="", help="Name of the model; made from the file name if not given.")
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    callback=recipe_names,
    metavar="RECIPE",
    help="Try exactly this instead of searching: a name, or composed, as in eq.static_wi8_ai8.mse.bias; repeat.",
)
@click.option("--quick", is_flag=True, help="Try only the recipes that the profiles name, instead of searching.")
@click.option("--strict", is_flag=True, help="The whole 95 % confidence interval must be within the tolerance.")
@click.option("--budget", callback=duration, metavar="TIME", help="Stop trying after this time: 90s, 10m, 1.5h.")
@click.option(
    "--workers", type=click.IntRange(min=0), default=0, metavar="N", help="Processes; 0 is one per core (default)."
)
@click.option(
    "--executor",
    default="",
    callback=executor_address,
    metavar="URL",
    help="dask://HOST:PORT: a cluster does the work.",
)
@click.option("--cache", type=_FILE, metavar="DIR", help="What was computed before; default: in your cache folder.")
@click.option("--no-cache", is_flag=True, help="Compute everything, and keep nothing.")
@click.option(
    "--task", type=_FILE, metavar="FILE", help="Python file with model() and train_data(): techniques that train."
)
@click.option(
    "--calibration-samples", type=click.IntRange(min=0), default=0, metavar="N", help="Calibrate on N chosen samples."
)
@click.option(
    "--coreset", type=click.Choice(CORESETS), default=CORESETS[0], show_default=True, help="How they are chosen."
)
@click.option("--profiles", "directories", multiple=True, type=_FILE, metavar="DIR", help="Your own profiles; repeat.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random.")
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
    max_accuracy_drop: Drop,
    name: str,
    recipes: tuple[str, ...],
    quick: bool,
    strict: bool,
    budget: float | None,
    workers: int,
    executor: str,
    cache: Path | None,
    no_cache: bool,
    task: Path | None,
    calibration_samples: int,
    coreset: str,
    directories: tuple[Path, ...],
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Compress a float model for kinds of devices: search what fits each, and keep what is good enough.

    MODEL is a .tflite or .onnx file with float32 weights and a batch of 1; give the same network in both formats to
    serve profiles of either. Where edgetpu_compiler is on PATH, Edge TPUs get compiled files. Exits with 1 if some
    profile is left without any variant.
    """
    if not models and task is None:
        raise click.UsageError("give a .tflite or .onnx MODEL, or a task file with --task")
    request = CompressRequest(
        models=models,
        profiles=tuple(load_profile(each, directories=directories) for each in dict.fromkeys(profiles)),
        calibration=calibration,
        evaluation=evaluation,
        out=out,
        max_accuracy_drop=max_accuracy_drop.share,
        relative=max_accuracy_drop.relative,
        strict=strict,
        name=name,
        recipes=recipes,
        search=not recipes and not quick,
        budget_seconds=budget,
        workers=workers,
        executor=executor,
        cache=None if no_cache else cache or cache_folder(os.environ),
        task=task,
        calibration_samples=calibration_samples,
        coreset=coreset,
        seed=seed,
        force=force,
    )
    with _progress() as say:
        found = app.compress_model(request, say=say)
    if as_json:
        print_json(found)
    else:
        _print(console(), found, app.read_search(out), out)
    context.exit(1 if left_out(found) else 0)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Provide a callback that shows what goes on: one line that changes on a terminal, lines elsewhere."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield lambda line: screen.print(line, style="dim", markup=False, soft_wrap=True)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda line: progress.update(task, description=line[: max(20, screen.width - 16)])


def left_out(found: VariantSet) -> tuple[str, ...]:
    """Return the profiles that no variant is offered to."""
    served = {profile for variant in found.variants for profile in variant.profiles}
    return tuple(profile for profile in found.profiles if profile not in served)


def _print(screen: Console, found: VariantSet, record: SearchRecord, out: Path) -> None:
    for profile in found.profiles:
        screen.print(_table(found, profile))
        for rejection in found.rejections:
            if rejection.profile == profile and rejection.code is not RejectionCode.DOMINATED:
                screen.print(_line(rejection), soft_wrap=True)
        beaten = sum(r.profile == profile and r.code is RejectionCode.DOMINATED for r in found.rejections)
        if beaten:
            screen.print(f"  {beaten} more answer no better than a sibling that costs the same", style="dim")
        screen.print()
    reference = "" if found.float_accuracy is None else f"float accuracy {found.float_accuracy:.2%}; "
    front = "* on the Pareto front of quality, size, memory and host latency"
    screen.print(f"{reference}{front}", style="dim", highlight=False)
    for line in (*record.notes, *_unfinished(record)):
        screen.print(f"note: {line}", highlight=False, soft_wrap=True, markup=False)
    screen.print(f"{len(found.variants)} variants in {out / VARIANTS_FILE}", highlight=False, soft_wrap=True)
    for profile in left_out(found):
        screen.print(f"no variant is left for {profile}", style="bold red", highlight=False)


def _unfinished(record: SearchRecord) -> Iterator[str]:
    if not record.finished:
        left = [missed.name for missed in record.not_tried if "budget" in missed.reason]
        yield f"the budget was spent before these were tried: {', '.join(left)}; run again to go on"


def _table(found: VariantSet, profile: str) -> Table:
    table = Table(title=profile, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    table.add_column("")
    table.add_column("variant", overflow="fold", min_width=20)
    for name in ("bytes", "zipped", "accuracy", "drop (95 %)", "agreed", "host ms", "arena"):
        table.add_column(name, justify="right", no_wrap=True)
    offered = [variant for variant in found.variants if profile in variant.profiles]
    facts = {v.name: v.edge_tpu for v in offered if v.edge_tpu is not None and profile in v.edge_tpu.profiles}
    if facts:
        table.add_column("Edge TPU", no_wrap=True)
    for variant in sorted(offered, key=lambda v: (profile not in v.pareto, v.size_bytes)):
        more = [facts[variant.name].short] if variant.name in facts else []
        table.add_row("*" if profile in variant.pareto else "", *_figures(variant), *more)
    return table


def _figures(variant: Variant) -> tuple[str, ...]:
    quality = variant.quality
    return (
        variant.name,
        f"{variant.size_bytes:,}",
        f"{variant.compressed_bytes:,}",
        "-" if quality.accuracy is None else f"{quality.accuracy:.2%}",
        interval_text(quality),
        f"{quality.agreement:.2%}",
        f"{variant.host_latency_ns / 1e6:.3f}",
        "-" if variant.arena_bytes is None else f"{variant.arena_bytes:,}",
    )


def interval_text(quality: Quality) -> str:
    """Return the interval of what the accuracy gate looks at, in points."""
    if quality.loss_low is None or quality.loss_high is None:
        return "-"
    return f"{quality.loss_low * 100:+.1f}..{quality.loss_high * 100:+.1f}"


def _line(rejection: Rejection) -> Text:
    return Text.assemble(
        ("  not ", "dim"), rejection.recipe, ": ", (rejection.code.value, "yellow"), f": {rejection.reason}"
    )
