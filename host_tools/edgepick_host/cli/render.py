"""How values look on a terminal: tables, sizes, progress. Results go to stdout, progress to stderr."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from edgepick_host.service.ledger import OnTransfer
from edgepick_host.service.ledger import Progress as Done
from edgepick_wire.codec import encode_document

_UNITS = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))
DIGEST_DIGITS = 12
NOTHING = "-"
YEAR_10000 = 253_402_300_800
"""Its first second since the epoch."""
FILE_COLUMNS = 160
"""Width of a table in a file or a pipe."""
WORD_CHARACTERS = 24
"""Longest word that the last column of a table keeps whole on a narrow terminal."""


def print_json(value: object) -> None:
    """Write a value of ours to stdout as indented JSON."""
    click.echo(encode_document(value, indent=2).decode())


def print_json_line(value: object) -> None:
    """Write a value of ours to stdout as JSON on one line."""
    click.echo(encode_document(value).decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to stdout; cells are taken literally."""
    console().print(table(columns, rows))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table without a frame; its last column breaks between words, its first where it must."""
    result = Table(box=None, header_style="bold", pad_edge=False)
    last = len(columns) - 1
    words = [word for row in rows for word in row[last].split()]
    for number, column in enumerate(columns):
        least = min(max(map(len, [column, *words])), WORD_CHARACTERS) if number == last else None
        result.add_column(column, overflow="fold", no_wrap=0 < number < last, min_width=least)
    for row in rows:
        result.add_row(*(Text(cell) for cell in row))
    return result


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Write ``name  value`` lines to stdout, never broken: a digest must survive being copied."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        click.echo(f"{name:<{width}}  {value}")


def console() -> Console:
    """Return a console on stdout that colours nothing by guessing, and is wide where no terminal limits it."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=FILE_COLUMNS)


def size_text(count: int) -> str:
    """Return a number of bytes as a person reads it: ``1.5 MiB``."""
    return next((f"{count / unit:.3g} {name}" for name, unit in _UNITS if count >= unit), f"{count} B")


def time_text(seconds: float) -> str:
    """Return seconds since the epoch as a person reads them; as they are where they lie in no year of four digits."""
    if not 0 <= seconds < YEAR_10000:
        return f"{seconds:.6g} s"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def digest_text(digest: str | None) -> str:
    """Return the beginning of a digest."""
    return digest[:DIGEST_DIGITS] if digest else NOTHING


@contextmanager
def transfer_progress(*, quiet: bool) -> Iterator[OnTransfer]:
    """Provide a callback that draws a transfer on a terminal's stderr; ``quiet`` draws nothing."""
    stderr = Console(stderr=True)
    stderr.quiet = quiet or not stderr.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task("publishing", total=None)

        def show(done: Done) -> None:
            progress.update(task, completed=done.done_bytes, total=done.total_bytes, description=done.variant)

        yield show
