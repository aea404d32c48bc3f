"""``edgepick-agent run``, for a person; systemd's way in is ``__main__.plain_run``."""

from pathlib import Path

import click

from edgepick_agent.cli.options import config_option
from edgepick_agent.cli.serve import serve


@click.command()
@config_option
@click.pass_context
def run(ctx: click.Context, *, config_file: Path) -> None:
    """Run the agent until SIGTERM or Ctrl-C.

    Without a broker it keeps trying, and what is installed goes on serving. On a terminal it logs
    for people, under systemd one JSON document a line.
    """
    verbose = bool(ctx.find_root().params.get("verbose"))
    ctx.exit(serve(str(config_file), verbose=verbose))
