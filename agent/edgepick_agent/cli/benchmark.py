"""``edgepick-agent benchmark MODEL``: measure any model file on this machine, no configuration needed."""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.options import FiniteRange, json_option, sysfs_option
from edgepick_agent.cli.profile_report import report
from edgepick_agent.cli.render import as_json_text, clip, printable
from edgepick_agent.cli.terminal import moves_cursor
from edgepick_agent.config import load_settings
from edgepick_agent.core.passes import Passes, paced_seconds, too_rare
from edgepick_agent.core.profile import SweepSetting
from edgepick_agent.core.profile_request import ProfileRequest
from edgepick_agent.core.runner_spec import GoldenFile
from edgepick_agent.core.settings import DEFAULT_CONFIG, AgentSettings, PowerSettings
from edgepick_agent.errors import AgentError
from edgepick_wire.manifest import RuntimeName
from edgepick_wire.metrics import MeasurePlan

PLAN = MeasurePlan()
LONGEST_PER_SECOND = 3
"""A long plan may take so many times as long as asked."""
MOST_CPUS = 1024
CPUS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?", re.ASCII)
ANY_ERROR = 1e30
"""A mean absolute error that no model exceeds; JSON has no infinity."""


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--runtime", type=click.Choice([r.value for r in RuntimeName]), help="[default: the first installed one]")
@click.option("--accelerator", "accelerators", multiple=True, help="In order of preference; repeat it. [default: cpu]")
@click.option("--threads", type=click.IntRange(1, 256), default=PLAN.threads, show_default=True)
@click.option("--runs", type=click.IntRange(1), default=PLAN.min_runs, show_default=True, help="At least so many.")
@click.option("--seconds", type=FiniteRange(0.0), default=PLAN.min_seconds, show_default=True, help="At least so long.")
@click.option(
    "--golden",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An .npz with x and expected (and y): check the answers too.",
)
@click.option("--min-agreement", type=FiniteRange(0.0, 1.0), default=0.95, show_default=True, help="For --golden.")
@click.option("--max-error", type=FiniteRange(0.0), default=ANY_ERROR, help="For --golden.  [default: any]")
@click.option("--stand-in", is_flag=True, help="Mark the figures: this machine only stands in for another.")
@click.option(
    "--config",
    "-c",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="EDGEPICK_AGENT_CONFIG",
    help=f"Take interpreter, sensors and stand_in from it.  [default: {DEFAULT_CONFIG}, if it is there]",
)
@click.option(
    "--restarts",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Starts of the runner; 20 to publish.",
)
@click.option("--rate", metavar="N/s", callback=lambda _c, _p, text: _rate(text), help="Run at a fixed rate too.")
@click.option("--operators", is_flag=True, help="Where the time goes, by operator.")
@click.option(
    "--cpus", metavar="LIST", callback=lambda _c, _p, text: _cpus(text), help="Hold the runner to these: 0,2-3."
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="threads=1,2|cpus=0,0+1",
    help="Measure each of these settings too; repeat it to combine both.",
)
@click.option("--trace", type=click.Path(path_type=Path, dir_okay=False), help="Write a trace for ui.perfetto.dev.")
@click.option("--watts", type=FiniteRange(0, min_open=True), help="Without a sensor, estimate energy from these.")
@json_option
@sysfs_option
def benchmark(
    *,
    model: Path,
    runtime: str | None,
    accelerators: tuple[str, ...],
    threads: int,
    runs: int,
    seconds: float,
    golden: Path | None,
    min_agreement: float,
    max_error: float,
    stand_in: bool,
    config_file: Path | None,
    restarts: int,
    rate: float | None,
    operators: bool,
    cpus: tuple[int, ...],
    sweeps: tuple[str, ...],
    trace: Path | None,
    watts: float | None,
    as_json: bool,
    sysfs_root: Path,
) -> None:
    """Measure a model file: time, memory, energy, and its answers if --golden is given."""
    settings = _settings(config_file)
    power = settings.power if settings else PowerSettings()
    asked = plan(threads=threads, runs=runs, seconds=seconds)
    if rate is not None:
        _check_rate(rate, asked)
    request = ProfileRequest(
        model=str(model.absolute()),
        runtime=runtime,
        accelerators=accelerators or ("cpu",),
        plan=asked,
        passes=Passes(rate_per_s=rate, operators=operators, cpus=cpus),
        restarts=restarts,
        golden=_golden_file(golden, min_agreement, max_error),
        sensors=settings.sensors if settings else (),
        power=power if watts is None else replace(power, watts=watts),
        broker=settings.broker if settings and power.mqtt_topic else None,
        sysfs_root=str(sysfs_root),
        python=settings.runner.python if settings else None,
        stand_in=stand_in or bool(settings and settings.stand_in),
        sweep=sweep_settings(sweeps, threads=threads, cpus=cpus),
        trace=str(trace) if trace else None,
    )
    with _ticking(f"measuring {printable(model.name)}") as tell:
        profile = site.benchmark(request, tell)
    click.echo(as_json_text(profile) if as_json else report(printable(model.name), profile))
    raise click.exceptions.Exit(0 if profile.golden is None or profile.golden.passed else 1)


def _rate(text: str | None) -> float | None:
    """Return inferences per second from "10/s", "30/min" or "10"."""
    if text is None:
        return None
    number, _, unit = text.partition("/")
    try:
        rate = float(number) / {"": 1, "s": 1, "min": 60, "h": 3600}[unit]
    except (ValueError, KeyError):
        rate = 0.0
    if not (rate > 0 and 0 < paced_seconds(rate) < float("inf")):
        raise click.BadParameter(f"{text!r} is no rate; give one like 10/s, 30/min or 360/h")
    return rate


def _check_rate(rate: float, asked: MeasurePlan) -> None:
    if why := too_rare(rate, asked):
        needed = -(-paced_seconds(rate) / LONGEST_PER_SECOND // 1)
        raise click.BadParameter(f"{why}; give --seconds {needed:.0f} too", param_hint="--rate")


def _cpus(text: str | None) -> tuple[int, ...]:
    """Return the CPUs in "0,2-3" or "0+2", in order."""
    found: set[int] = set()
    for part in re.split(r"[,+]", text) if text else ():
        ends = CPUS.fullmatch(part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if not first <= last <= MOST_CPUS:
            raise click.BadParameter(f"{text!r} is no list of CPUs; give one like 0,2-3")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def sweep_settings(texts: tuple[str, ...], *, threads: int, cpus: tuple[int, ...]) -> tuple[SweepSetting, ...]:
    """Return every combination of what the texts list: "threads=1,2" and "cpus=0,0+1"."""
    listed: dict[str, list[str]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in {"threads", "cpus"} or not all(values.split(",")):
            raise click.BadParameter(f"{text!r}; give threads=1,2,4 or cpus=0,0+1", param_hint="--sweep")
        listed[name] = values.split(",")
    if not listed:
        return ()
    counts = [_threads(value) for value in listed.get("threads", [str(threads)])]
    sets = [_cpus(value) for value in listed["cpus"]] if "cpus" in listed else [cpus]
    return tuple(SweepSetting(threads=count, cpus=held) for held in sets for count in counts)


def _threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_CPUS:
        raise click.BadParameter(f"{text!r} is no number of threads", param_hint="--sweep")
    return int(text)


def _golden_file(path: Path | None, min_agreement: float, max_error: float) -> GoldenFile | None:
    if path is None:
        return None
    return GoldenFile(path=str(path.absolute()), min_agreement=min_agreement, max_mean_abs_error=max_error)


def plan(*, threads: int, runs: int, seconds: float) -> MeasurePlan:
    """Return a plan that reaches both minima."""
    longest = max(PLAN.max_seconds, LONGEST_PER_SECOND * seconds)
    return MeasurePlan(min_runs=runs, min_seconds=seconds, max_seconds=longest, threads=threads)


def _settings(config_file: Path | None) -> AgentSettings | None:
    """Return the device's settings if there are any; a broken file that nobody asked for is only mentioned."""
    path = config_file or Path(DEFAULT_CONFIG)
    if config_file is None and not path.exists():
        return None
    try:
        return load_settings(path, os.environ, files=False)
    except AgentError as error:
        if config_file is not None:
            raise
        click.echo(f"note: {path} is not used: {clip(str(error), 160)}", err=True)
        return None


@contextmanager
def _ticking(text: str) -> Iterator[Callable[[str], None]]:
    """Show what goes on and the seconds that pass on standard error, while there is a person to see them."""
    if not moves_cursor(sys.stderr, os.environ):
        yield lambda _text: None
        return
    over, now = threading.Event(), [""]
    ticker = threading.Thread(target=_tick, args=(text, now, over), daemon=True)
    ticker.start()
    try:
        yield lambda said: now.__setitem__(0, f", {said}")
    finally:
        over.set()
        ticker.join()
        sys.stderr.write("\r\x1b[K")


def _tick(text: str, now: list[str], over: threading.Event) -> None:
    began = time.monotonic()
    while not over.wait(0.5):
        sys.stderr.write(f"\r{text}{now[0]} ... {time.monotonic() - began:.0f} s\x1b[K")
        sys.stderr.flush()
