"""``edgepick profiles``: what is known about boards."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from edgepick_host.cli.options import as_json, profile_dirs, settings_of
from edgepick_host.cli.render import NOTHING, console, print_json, size_text
from edgepick_profiles.errors import Problem, ProfileError
from edgepick_profiles.load import SUFFIX, check_file, load_all, load_profile, profile_files
from edgepick_profiles.schema import Profile
from edgepick_wire.manifest import RuntimeChoice


@click.group()
def profiles() -> None:
    """Kinds of device: list them, look at one, check your own."""


@profiles.command("list")
@profile_dirs
@as_json
@click.pass_context
def list_command(context: click.Context, profile_dirs: tuple[str, ...], as_json: bool) -> None:
    """List every profile."""
    found = load_all(_folders(context, profile_dirs))
    if as_json:
        print_json(tuple(found.values()))
    else:
        console().print(_overview(found.values()))


@profiles.command("show")
@click.argument("name")
@profile_dirs
@as_json
@click.pass_context
def show_command(context: click.Context, name: str, profile_dirs: tuple[str, ...], as_json: bool) -> None:
    """Show one profile: facts, rules, budgets, recipes and where they come from."""
    profile = load_profile(name, directories=_folders(context, profile_dirs))
    if as_json:
        print_json(profile)
    else:
        _print_profile(console(), profile)


@profiles.command("check")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@profile_dirs
@as_json
@click.pass_context
def check_command(
    context: click.Context, paths: tuple[Path, ...], profile_dirs: tuple[str, ...], as_json: bool
) -> None:
    """Check profile files, or all files of a directory; without PATHS every known profile.

    Every mistake is named, not only the first.
    """
    directories = _folders(context, profile_dirs)
    results = {path: _problems(path, directories) for path in _files(paths, directories)}
    problems = [problem for found in results.values() for problem in found]
    if as_json:
        print_json({str(path): {"ok": not found, "problems": found} for path, found in results.items()})
        context.exit(ProfileError.exit_code if problems else 0)
    for path in (p for p, found in results.items() if not found):
        click.echo(f"{path}: ok")
    if problems:
        raise ProfileError.of(problems)


def _folders(context: click.Context, flags: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the directories that the flags name, else those of the configuration."""
    found = settings_of(context, profile_dirs=flags or None).profile_dirs
    return tuple(Path(folder) for folder in found)


def _files(paths: Sequence[Path], directories: Sequence[Path]) -> list[Path]:
    if not paths:
        return list(profile_files(directories).values())
    return [file for path in paths for file in (sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path])]


def _problems(path: Path, directories: Sequence[Path]) -> tuple[Problem, ...]:
    try:
        check_file(path, directories)
    except ProfileError as error:
        return error.problems
    return ()


def _overview(found: Iterable[Profile]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("profile", "device", "memory", "formats", "runtimes"):
        table.add_column(name, overflow="fold", no_wrap=name in {"profile", "memory"})
    for profile in found:
        table.add_row(
            profile.name,
            profile.title,
            size_text(profile.hardware.ram_bytes),
            " ".join(f.value for f in profile.rules.formats),
            " ".join(r.name.value for r in profile.runtimes),
        )
    return table


def _print_profile(screen: Console, profile: Profile) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _rows(profile):
        table.add_row(name, value)
    screen.print(table)
    screen.print("\nsources", style="bold")
    for source in profile.sources:
        screen.print(f"- {source.fact}\n  {source.reference}", highlight=False, markup=False, soft_wrap=True)


def _rows(profile: Profile) -> list[tuple[str, str]]:
    return [
        ("profile", profile.name),
        ("device", profile.title),
        ("about", profile.description or NOTHING),
        ("inherits", profile.inherits or NOTHING),
        *_hardware(profile),
        *_rules(profile),
        *[(f"runtime {i}", _runtime(choice)) for i, choice in enumerate(profile.runtimes, 1)],
        *_budgets(profile),
        ("recipes", ", ".join(profile.recipes)),
        ("sensors", ", ".join(profile.sensors) or NOTHING),
        ("throttling", ", ".join(profile.throttling) or NOTHING),
        ("gateway", "models run on a gateway on its behalf" if profile.gateway else "no"),
    ]


def _hardware(profile: Profile) -> list[tuple[str, str]]:
    board = profile.hardware
    return [
        ("processor", f"{board.isa}, {board.cores} x {board.clock_mhz} MHz"),
        ("memory", size_text(board.ram_bytes)),
        ("flash", size_text(board.flash_bytes) if board.flash_bytes else NOTHING),
        ("accelerators", ", ".join(board.accelerators) or NOTHING),
        ("active power", f"{profile.watts:g} W (estimates only)" if profile.watts else NOTHING),
    ]


def _rules(profile: Profile) -> list[tuple[str, str]]:
    rules = profile.rules
    more = {
        "integer only": rules.integer_only,
        "symmetric QDQ": rules.symmetric_qdq,
        "dense weights per tensor": not rules.per_channel_dense,
        f"{rules.operators.value} operators": rules.operators.value != "any",
        "static shapes": rules.static_shapes,
        "no hybrid models": not rules.hybrid,
    }
    return [
        ("formats", ", ".join(f.value for f in rules.formats)),
        ("number types", ", ".join(n.value for n in rules.number_types)),
        ("rules", ", ".join(name for name, holds in more.items() if holds) or NOTHING),
    ]


def _runtime(choice: RuntimeChoice) -> str:
    return f"{choice.name.value} on {' or '.join(choice.accelerators)}, threads: {choice.threads}"


def _budgets(profile: Profile) -> list[tuple[str, str]]:
    budgets = profile.budgets
    limits = {
        "latency p95": f"{budgets.latency_p95_ms:g} ms" if budgets.latency_p95_ms else "",
        "peak memory": size_text(budgets.peak_rss_bytes) if budgets.peak_rss_bytes else "",
        "arena": size_text(budgets.arena_bytes) if budgets.arena_bytes else "",
        "model": size_text(budgets.model_bytes) if budgets.model_bytes else "",
        "energy": f"{budgets.energy_mj:g} mJ" if budgets.energy_mj else "",
    }
    return [("budgets", ", ".join(f"{name} {limit}" for name, limit in limits.items() if limit) or NOTHING)]
