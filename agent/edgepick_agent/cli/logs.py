"""``edgepick-agent logs``: what the agent said, from the journal or from its own files, whichever is newer."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.log_lines import LogLevel, LogLine, as_json, as_text, from_file, from_journal, moment
from edgepick_agent.cli.options import config_option, settings_for_commands
from edgepick_agent.cli.render import printable
from edgepick_agent.errors import StorageError
from edgepick_agent.ports import LogFiles

LINES = 50
Decode = Callable[[str], LogLine | None]


@click.command()
@config_option
@click.option(
    "--lines", "-n", type=click.IntRange(0), help=f"So many of the latest.  [default: {LINES}, all with --since]"
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what is said from now on, until Ctrl-C.")
@click.option(
    "--since", metavar="TIME", callback=lambda _c, _p, text: _moment(text), help="10min, 2h, 3d or '2026-11-21 12:30'."
)
@click.option("--level", type=click.Choice([level.value for level in LogLevel]), default="info", show_default=True)
@click.option("--json", "as_documents", is_flag=True, help="Print one JSON document a line.")
def logs(
    *, config_file: Path, lines: int | None, follow: bool, since: float | None, level: str, as_documents: bool
) -> None:
    """Show what the agent said: from the journal where systemd runs it, otherwise from its own files."""
    settings = settings_for_commands(config_file)
    serious = level == LogLevel.WARNING.value
    many = LINES if lines is None and since is None else lines
    show = as_json if as_documents else lambda line: printable(as_text(line, dated=True))
    files = site.log_files(settings)
    with contextlib.suppress(*[KeyboardInterrupt] if follow else ()):
        said, of_journal = latest(files, lines=many, since=since, serious=serious)
        for line in said:
            click.echo(show(line))
        if not said and not follow:
            click.echo("nothing was said, or this account may not read it: sudo edgepick-agent logs", err=True)
        for line in _following(files, of_journal=of_journal, serious=serious) if follow else ():
            click.echo(show(line))


def latest(
    files: LogFiles, *, lines: int | None, since: float | None = None, serious: bool = False
) -> tuple[list[LogLine], bool]:
    """Return the latest lines, oldest first, and whether they are the journal's.

    Of journal and files that counts whose last line is newer: an agent that a person runs writes
    files, also where a service ran before.

    Raises:
        StorageError: There are files that may not be read, and nothing in the journal.
    """
    asked = site.journal(lines=lines, since=since, serious=serious)
    of_journal = _kept(_decoded(asked, from_journal), lines=lines, since=since, serious=serious)
    with contextlib.suppress(*[StorageError] if of_journal else ()):
        return _newer(_kept(_decoded(files.read(), from_file), lines=lines, since=since, serious=serious), of_journal)
    return of_journal, True


def _newer(of_files: list[LogLine], of_journal: list[LogLine]) -> tuple[list[LogLine], bool]:
    newer = bool(of_journal) and (not of_files or of_journal[-1].time >= of_files[-1].time)
    return (of_journal, True) if newer else (of_files, False)


def _decoded(texts: Iterable[str], decode: Decode) -> Iterator[LogLine]:
    return (line for line in map(decode, texts) if line is not None)


def _kept(found: Iterable[LogLine], *, lines: int | None, since: float | None, serious: bool) -> list[LogLine]:
    wanted = [line for line in found if _wanted(line, since=since, serious=serious)]
    return wanted if lines is None else wanted[max(0, len(wanted) - lines) :]


def _wanted(line: LogLine, *, since: float | None, serious: bool) -> bool:
    return (since is None or line.time >= since) and (not serious or line.level is LogLevel.WARNING)


def _following(files: LogFiles, *, of_journal: bool, serious: bool) -> Iterator[LogLine]:
    texts = site.follow_journal(serious=serious) if of_journal else files.follow()
    found = _decoded(texts, from_journal if of_journal else from_file)
    return (line for line in found if _wanted(line, since=None, serious=serious))


def _moment(text: str | None) -> float | None:
    try:
        return None if text is None else moment(text, time.time())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
