"""Runs the agent in the foreground: configuration, log, signals and systemd around ``app.run_agent``.

Loads no command line library, as this is what a device keeps in memory.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from edgepick_agent import app
from edgepick_agent.cli.failures import render
from edgepick_agent.cli.journal import Log, in_journal, line_of, log_to
from edgepick_agent.cli.log_lines import as_json
from edgepick_agent.config import read_config, require_settings
from edgepick_agent.core import places
from edgepick_agent.core.settings import AgentSettings
from edgepick_agent.errors import AgentError
from edgepick_agent.instruments import adapter

Notify = Callable[[str], None]
"""Sends a state to systemd, by sd_notify(3)."""


def serve(config: str, *, verbose: bool = False) -> int:
    """Run until SIGTERM or SIGINT; return the exit code, any error already shown."""
    try:
        _serve(Path(config))
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last stop before a person
        return render(error, verbose=verbose)
    return 0


def _serve(config: Path) -> None:
    loaded = read_config(config, os.environ)
    settings = require_settings(loaded)
    keep: Callable[[str], None] = adapter(app.PARTS["log-files"])(Path(settings.state_dir) / places.LOG).append
    log = log_to(sys.stderr, os.environ, keep)
    for warning in loaded.warnings:
        log(f"{config}: {warning}", serious=True)
    stop = threading.Event()
    _stop_on_signals(stop, log)
    try:
        _run(settings, stop, log)
    except AgentError as error:  # shown to whoever started it, which may be nobody
        if not in_journal(os.environ):
            keep(as_json(line_of(f"the agent ended: {error}", serious=True)))
        raise


def _run(settings: AgentSettings, stop: threading.Event, log: Log) -> None:
    notify: Notify = adapter(app.TOOLS["notifier"])(os.environ)
    period: float | None = adapter(app.TOOLS["watchdog-seconds"])(os.environ)
    if period is not None:
        threading.Thread(target=_watch, args=(settings, stop, notify, period), name="watchdog", daemon=True).start()
    log(f"agent {settings.device} of fleet {settings.fleet} starts", about={"state_dir": settings.state_dir})
    try:
        app.run_agent(settings, stop=stop, on_ready=lambda: notify("READY=1"), log=log)
    finally:
        notify("STOPPING=1")
    log("agent stopped")


def _watch(settings: AgentSettings, stop: threading.Event, notify: Notify, period: float) -> None:
    """Tell systemd that the agent is alive, each time that its own loop has answered a request for status.

    A hung loop gives no answer, so systemd hears nothing and starts the agent again.
    """
    while not stop.wait(period):
        with contextlib.suppress(AgentError):
            if app.read_status(settings).running:
                notify("WATCHDOG=1")


def _stop_on_signals(stop: threading.Event, log: Log) -> None:
    """Set ``stop`` at SIGTERM and SIGINT; a second one ends the process at once.

    A thread is told of them through a pipe. Python runs a handler in the main thread between two of
    its instructions, and a signal that comes in the moment before that thread goes to sleep waits
    with it, for half a minute here.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end_at_the_next)
    threading.Thread(target=_heed, args=(told, stop, log), name="signals", daemon=True).start()


def _end_at_the_next(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)


def _heed(told: int, stop: threading.Event, log: Log) -> None:
    number = os.read(told, 1)[0]
    log(f"{signal.Signals(number).name}: stopping")
    stop.set()
