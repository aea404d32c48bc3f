"""``edgepick serve``: the host service."""

import json
import signal
import sys
import threading
import time
from types import FrameType

import click

from edgepick_host import app
from edgepick_host.cli import options


@click.command()
@options.host_options
@options.profile_dirs
@options.as_json
@click.pass_context
def serve(context: click.Context, /, *, profile_dirs: tuple[str, ...], as_json: bool, **places: str | None) -> None:
    """Collect reports, decide and roll out, until SIGTERM or Ctrl-C.

    Only one host service runs for a fleet; a second one waits until the first has ended.
    """
    settings = options.settings_of(context, profile_dirs=profile_dirs, **places)
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    say = _line_json if as_json else _line
    app.serve(settings, say=say, stopped=ended.is_set)
    say("ended")


def _line(text: str) -> None:
    click.echo(f"{_now()} {text}")
    sys.stdout.flush()


def _line_json(text: str) -> None:
    click.echo(json.dumps({"at": _now(), "text": text}, ensure_ascii=False))
    sys.stdout.flush()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
