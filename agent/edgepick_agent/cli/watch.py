"""``edgepick-agent watch``: the screen of ``status``, again and again."""

import contextlib
import itertools
import os
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.failures import text_of
from edgepick_agent.cli.options import FiniteRange, config_option, settings_for_commands
from edgepick_agent.cli.painter import Painter
from edgepick_agent.cli.render import as_json_text
from edgepick_agent.cli.status import WIDTH, screen
from edgepick_agent.cli.terminal import moves_cursor
from edgepick_agent.core.advice import advise
from edgepick_agent.core.control import AgentStatus
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.errors import AgentError

LINE = "-" * 20
"""Above each screen where a cursor cannot move."""
DAY_SECONDS = 86400.0

Seen = AgentStatus | AgentError
"""What a look at the agent gives: its status, or why there is none."""


@click.command()
@config_option
@click.option(
    "--interval", type=FiniteRange(0.1, DAY_SECONDS), default=2.0, show_default=True, help="Seconds between two."
)
@click.option("--count", type=click.IntRange(1), help="Stop after so many.  [default: until Ctrl-C]")
@click.option("--json", "as_documents", is_flag=True, help="Print one JSON document a line.")
def watch(*, config_file: Path, interval: float, count: int | None, as_documents: bool) -> None:
    """Show the status until Ctrl-C; on a terminal that cannot move its cursor, one below the other.

    While the agent gives none, because it hangs or starts again, that is shown in its place. With --count, the exit
    code is that of the last look.
    """
    settings = settings_for_commands(config_file)
    show = _document if as_documents else _painter() if moves_cursor(sys.stdout, os.environ) else _below
    with contextlib.suppress(KeyboardInterrupt):
        for number in itertools.count(1):
            seen = _look(settings)
            click.echo(show(seen), nl=False)
            if number == count:
                raise click.exceptions.Exit(seen.exit_code if isinstance(seen, AgentError) else 0)
            time.sleep(interval)


def _look(settings: AgentSettings) -> Seen:
    try:
        return site.status(settings)
    except AgentError as error:
        return error


def _document(seen: Seen) -> str:
    if isinstance(seen, AgentError):
        found: dict[str, object] = {"error": {"code": seen.code, "message": str(seen), "hint": seen.hint}}
    else:
        found = {"status": seen, "advice": advise(seen)}
    return as_json_text({"time": time.time(), **found}, indent=None) + "\n"


def _below(seen: Seen) -> str:
    return f"{LINE}\n{_text(seen)}\n"


def _painter() -> Callable[[Seen], str]:
    painter = Painter()
    return lambda seen: painter.paint(_text(seen))


def _text(seen: Seen) -> str:
    """Return the screen of a status; of an error, its lines broken at the screen's width."""
    if isinstance(seen, AgentStatus):
        return screen(seen)
    lines = [textwrap.wrap(line, WIDTH, break_on_hyphens=False) for line in text_of(seen).splitlines()]
    return "\n".join(itertools.chain.from_iterable(lines))
