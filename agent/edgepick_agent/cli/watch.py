"""``edgepick-agent watch``: the screen of ``status``, again and again."""

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.options import config_option, settings_for_commands
from edgepick_agent.cli.painter import Painter
from edgepick_agent.cli.render import as_json_text
from edgepick_agent.cli.status import screen
from edgepick_agent.cli.terminal import moves_cursor
from edgepick_agent.core.advice import advise
from edgepick_agent.core.control import AgentStatus

LINE = "-" * 20
"""Above each screen where a cursor cannot move."""


@click.command()
@config_option
@click.option("--interval", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Seconds between two.")
@click.option("--count", type=click.IntRange(1), help="Stop after so many.  [default: until Ctrl-C]")
@click.option("--json", "as_documents", is_flag=True, help="Print one JSON document a line.")
def watch(*, config_file: Path, interval: float, count: int | None, as_documents: bool) -> None:
    """Show the status until Ctrl-C; on a terminal that cannot move its cursor, one below the other."""
    settings = settings_for_commands(config_file)
    text_of = _document if as_documents else _painter() if moves_cursor(sys.stdout, os.environ) else _below
    with contextlib.suppress(KeyboardInterrupt):
        for number in itertools.count(1):
            click.echo(text_of(site.status(settings)), nl=False)
            if number == count:
                return
            time.sleep(interval)


def _document(status: AgentStatus) -> str:
    document = {"time": time.time(), "status": status, "advice": advise(status)}
    return as_json_text(document, indent=None) + "\n"


def _below(status: AgentStatus) -> str:
    return f"{LINE}\n{screen(status)}\n"


def _painter() -> Callable[[AgentStatus], str]:
    painter = Painter()
    return lambda status: painter.paint(screen(status))
