"""``edgepick-agent watch``: the screen of ``status``, again and again."""

import os
import sys
import time
from pathlib import Path

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.options import config_option, settings_for_commands
from edgepick_agent.cli.status import screen

HOME_AND_CLEAR = "\x1b[H\x1b[J"
PLAIN_TERMINALS = frozenset({"", "dumb", "unknown"})


@click.command()
@config_option
@click.option("--interval", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Seconds between two.")
@click.option("--count", type=click.IntRange(1), help="Stop after so many.  [default: until Ctrl-C]")
def watch(*, config_file: Path, interval: float, count: int | None) -> None:
    """Show the status until Ctrl-C; on a terminal that cannot move its cursor, one below the other."""
    settings = settings_for_commands(config_file)
    moves = sys.stdout.isatty() and os.environ.get("TERM", "") not in PLAIN_TERMINALS
    shown = 0
    while True:
        click.echo(f"{HOME_AND_CLEAR if moves else ''}{screen(site.status(settings))}")
        shown += 1
        if shown == count:
            return
        if not moves:
            click.echo("-" * 20)
        try:
            time.sleep(interval)
        except KeyboardInterrupt:
            return
