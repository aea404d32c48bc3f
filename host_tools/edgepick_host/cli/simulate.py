"""``edgepick simulate``: thousands of virtual devices at a real broker."""

import dataclasses
import signal
import threading
import time
from pathlib import Path
from types import FrameType

import click

from edgepick_host import app
from edgepick_host.cli import options, render
from edgepick_host.simulate.fleet import FleetPlan, simulate
from edgepick_host.simulate.hub import HubPlan
from edgepick_host.simulate.scenario import MAX_DEVICES, Scenario
from edgepick_host.simulate.scenario_file import read_scenario
from edgepick_host.simulate.tally import DeviceRecord, Tally
from edgepick_wire import codec

SHARED = "shared"
EACH = "per-device"
SAID_SECONDS = 5.0
"""Pause between two lines for a person; programs get one a second."""
UNHEARD = (
    "warning: the host is there and acknowledges none of {count} reports: does the broker's access list let this user "
    "speak for devices? See docs/simulate.md."
)


@click.command("simulate")
@click.option("--devices", type=click.IntRange(1, MAX_DEVICES), default=100, show_default=True, help="How many.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Spread over so many.")
@click.option(
    "--scenario",
    "scenario_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="What they are and how they misbehave: strata, noise, failures, pace; TOML, see docs/simulate.md.",
)
@click.option(
    "--seed", type=int, metavar="N", help="Another fleet of the same scenario; the same seed, the same fleet."
)
@click.option(
    "--connections",
    type=click.Choice((SHARED, EACH)),
    default=SHARED,
    show_default=True,
    help="One connection a process, or one a device with a last will of its own.",
)
@click.option("--first-chunk", is_flag=True, help="Really fetch the first chunk of every bundle, and check it.")
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End after so long. [at Ctrl-C or SIGTERM]",
)
@click.option(
    "--records",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write what became of each device there at the end, one JSON object a line.",
)
@options.host_options
@options.as_json
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    devices: int,
    processes: int,
    scenario_file: Path | None,
    seed: int | None,
    connections: str,
    first_chunk: bool,
    seconds: float | None,
    records: Path | None,
    as_json: bool,
    **places: str | None,
) -> None:
    """Be a fleet of virtual devices that speak the real protocol, until SIGTERM or Ctrl-C.

    They announce themselves, follow signed desired state, measure, install, confirm, report and fall back as the
    scenario says. Nothing is executed: figures are made up, and marked as a stand-in's. Needs the fleet's root document
    (--keys) to verify what the host says.
    """
    settings = options.settings_of(context, **places)
    root, _ = app.read_root(settings)
    scenario = read_scenario(scenario_file) if scenario_file else Scenario()
    plan = FleetPlan(
        scenario=scenario if seed is None else dataclasses.replace(scenario, seed=seed),
        devices=devices,
        processes=processes,
        hub=HubPlan(
            broker=settings.broker,
            root=root,
            session=int(time.time()),
            connection_each=connections == EACH,
            first_chunk=first_chunk,
        ),
        check=app.verify_signature(),
    )
    found = simulate(plan, show=Teller(as_json=as_json).show, stopped=Ending(seconds).reached)
    if records is not None:
        _write_records(records, found)


class Ending:
    """Whether it is time: a signal came, or so many seconds are over."""

    def __init__(self, seconds: float | None) -> None:
        self._asked = threading.Event()
        self._until = None if seconds is None else time.monotonic() + seconds
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    def reached(self) -> bool:
        """Return whether the fleet is to end."""
        return self._asked.is_set() or (self._until is not None and time.monotonic() >= self._until)

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        self._asked.set()


class Teller:
    """Says how the fleet is: to programs every time, to people now and then; warns once."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._next = 0.0
        self._warned = False

    def show(self, tally: Tally) -> None:
        """Say it, if it is time."""
        if tally.unheard and not self._warned:
            self._warned = True
            click.echo(UNHEARD.format(count=tally.unheard), err=True)
        if self._as_json:
            render.print_json_line(tally)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + SAID_SECONDS
            click.echo(tally.text, err=True)


def _write_records(path: Path, records: tuple[DeviceRecord, ...]) -> None:
    path.write_bytes(b"".join(codec.encode_document(record) + b"\n" for record in records))
