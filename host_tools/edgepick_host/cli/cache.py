"""``edgepick cache``: what compressions keep, so that nothing is computed twice."""

import os
from dataclasses import dataclass
from pathlib import Path

import click

from edgepick_host.cli import options, render
from edgepick_host.compress.cache import Cache, CacheFacts
from edgepick_host.compress.request import cache_folder

MIB = 1 << 20

_folder = click.option(
    "--cache",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder; default: in your cache folder, as for `edgepick compress`.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What ``prune`` did, and what it left."""

    dropped: int
    left: CacheFacts


@click.group()
def cache() -> None:
    """Show what `edgepick compress` has computed before, and drop it."""


@cache.command()
@_folder
@options.as_json
def show(*, folder: Path | None, as_json: bool) -> None:
    """Show where results are kept, how many, and how large they are."""
    facts = _opened(folder).facts()
    if as_json:
        render.print_json(facts)
        return
    click.echo(_line(facts))


@cache.command()
@_folder
@click.option(
    "--to",
    "largest_mib",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    metavar="MIB",
    help="What may stay; the results unused for longest go first.",
)
@options.as_json
def prune(*, folder: Path | None, largest_mib: float, as_json: bool) -> None:
    """Drop results until no more than --to is left; the next run computes again what it misses."""
    opened = _opened(folder)
    done = Pruned(dropped=opened.prune(int(largest_mib * MIB)), left=opened.facts())
    if as_json:
        render.print_json(done)
        return
    click.echo(f"dropped {done.dropped} results; {_line(done.left)}")


def _opened(folder: Path | None) -> Cache:
    return Cache(folder or cache_folder(os.environ))


def _line(facts: CacheFacts) -> str:
    most = render.size_text(facts.largest_bytes)
    return f"{facts.entries} results, {render.size_text(facts.size_bytes)} of at most {most}, in {facts.folder}"
