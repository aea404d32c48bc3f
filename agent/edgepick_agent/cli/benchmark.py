"""``edgepick-agent benchmark MODEL``: measure any model file on this machine, no configuration needed."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from edgepick_agent.cli import site
from edgepick_agent.cli.options import json_option, sysfs_option
from edgepick_agent.cli.render import NOT_ESTIMABLE, as_json_text, clip, duration, energy, pairs, size
from edgepick_agent.config import load_settings
from edgepick_agent.core.runner_spec import GoldenFile
from edgepick_agent.core.settings import DEFAULT_CONFIG, AgentSettings
from edgepick_agent.errors import AgentError
from edgepick_wire.manifest import RuntimeName
from edgepick_wire.metrics import GoldenResult, Measurement, MeasurePlan, Verdict

PLAN = MeasurePlan()
ANY_ERROR = 1e30
"""A mean absolute error that no model exceeds; JSON has no infinity."""


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--runtime", type=click.Choice([r.value for r in RuntimeName]), help="[default: the first installed one]")
@click.option("--accelerator", "accelerators", multiple=True, help="In order of preference; repeat it. [default: cpu]")
@click.option("--threads", type=click.IntRange(1, 256), default=PLAN.threads, show_default=True)
@click.option("--runs", type=click.IntRange(1), default=PLAN.min_runs, show_default=True, help="At least so many.")
@click.option(
    "--seconds", type=click.FloatRange(0.0), default=PLAN.min_seconds, show_default=True, help="At least so long."
)
@click.option(
    "--golden",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An .npz with x and expected (and y): check the answers too.",
)
@click.option("--min-agreement", type=click.FloatRange(0.0, 1.0), default=0.95, show_default=True, help="For --golden.")
@click.option("--max-error", type=click.FloatRange(0.0), default=ANY_ERROR, help="For --golden.  [default: any]")
@click.option("--stand-in", is_flag=True, help="Mark the figures: this machine only stands in for another.")
@click.option(
    "--config",
    "-c",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="EDGEPICK_AGENT_CONFIG",
    help=f"Take interpreter, sensors and stand_in from it.  [default: {DEFAULT_CONFIG}, if it is there]",
)
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
    as_json: bool,
    sysfs_root: Path,
) -> None:
    """Measure a model file: time, memory, energy, and its answers if --golden is given."""
    settings = _settings(config_file)
    with _ticking(f"measuring {model.name}"):
        measurement = site.benchmark(
            model.absolute(),
            runtime=runtime,
            accelerators=accelerators or ("cpu",),
            plan=plan(threads=threads, runs=runs, seconds=seconds),
            golden=_golden_file(golden, min_agreement, max_error),
            sensors=settings.sensors if settings else (),
            sysfs_root=str(sysfs_root),
            python=settings.runner.python if settings else None,
            stand_in=stand_in or bool(settings and settings.stand_in),
        )
    click.echo(as_json_text(measurement) if as_json else report(model.name, measurement))
    raise click.exceptions.Exit(0 if measurement.golden is None or measurement.golden.passed else 1)


def _golden_file(path: Path | None, min_agreement: float, max_error: float) -> GoldenFile | None:
    if path is None:
        return None
    return GoldenFile(path=str(path.absolute()), min_agreement=min_agreement, max_mean_abs_error=max_error)


def plan(*, threads: int, runs: int, seconds: float) -> MeasurePlan:
    """Return a plan that reaches both minima; a long one may take three times as long as asked."""
    return MeasurePlan(
        min_runs=runs, min_seconds=seconds, max_seconds=max(PLAN.max_seconds, 3 * seconds), threads=threads
    )


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
def _ticking(text: str) -> Iterator[None]:
    """Show the seconds that pass on standard error, while there is a person to see them."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    ticker = threading.Thread(target=_tick, args=(text, over), daemon=True)
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join()
        sys.stderr.write("\r\x1b[K")


def _tick(text: str, over: threading.Event) -> None:
    began = time.monotonic()
    while not over.wait(0.5):
        sys.stderr.write(f"\r{text} ... {time.monotonic() - began:.0f} s")
        sys.stderr.flush()


def report(name: str, found: Measurement) -> str:
    """Return a measurement as text, every figure with its unit, every missing one with its reason."""
    sections = [_head(name, found), _times(found), _memory(found), _rest(found)]
    return "\n\n".join(pairs(section, width=16) for section in sections)


def _head(name: str, found: Measurement) -> Iterator[tuple[str, str]]:
    used = found.runtime
    yield "model", f"{name}, {size(found.memory.model_file_bytes)}"
    yield "machine", found.conditions.machine + (" (stand-in)" if found.conditions.stand_in else "")
    nodes = (
        f", {used.accelerated_nodes} of {used.nodes} nodes" if used.nodes and used.accelerated_nodes is not None else ""
    )
    yield "runtime", f"{used.name} {used.version} on {used.accelerator}{nodes}, {used.threads} thread(s)"
    if used.fallback_reason:
        yield "fallback", used.fallback_reason
    yield "verdict", found.verdict.value + (f": {'; '.join(found.reasons)}" if found.reasons else "")
    if found.verdict is Verdict.INVALID:
        yield "", "do not use these figures; mend what is named above and measure again"


def _times(found: Measurement) -> Iterator[tuple[str, str]]:
    latency = found.latency
    yield "load", duration(found.load_ns)
    yield "first inference", duration(found.first_inference_ns)
    yield "mean", f"{duration(latency.mean_ns)} +- {duration(latency.stdev_ns)} over {latency.runs} runs"
    yield "min, max", f"{duration(latency.min_ns)}, {duration(latency.max_ns)}"
    for percentile in (50, 90, 95, 99):
        yield f"p{percentile}", duration(getattr(latency, f"p{percentile}_ns"), missing=NOT_ESTIMABLE)
    yield "throughput", f"{found.throughput_per_s:.4g} inferences/s"


def _memory(found: Measurement) -> Iterator[tuple[str, str]]:
    memory = found.memory
    yield "peak memory", size(memory.peak_rss_bytes)
    yield "steady memory", size(memory.steady_rss_bytes)
    yield "private memory", size(memory.private_bytes)
    yield "before runtime", size(memory.baseline_rss_bytes)
    if memory.arena_bytes is not None:
        yield "tensor arena", size(memory.arena_bytes)


def _rest(found: Measurement) -> Iterator[tuple[str, str]]:
    yield "energy", _energy(found)
    yield "answers", _golden(found.golden)
    yield "conditions", "; ".join(_conditions(found)) or "not readable here"


def _energy(found: Measurement) -> str:
    spent = found.energy
    if spent.gross_uj is None:
        return f"not measured: {spent.reason}"
    net = f", {energy(spent.net_uj)} above idle" if spent.net_uj is not None else ""
    return f"{energy(spent.gross_uj)} per inference{net} ({spent.source}, covers the {spent.scope})"


def _golden(golden: GoldenResult | None) -> str:
    if golden is None:
        return "not checked: no --golden file"
    accuracy = f", accuracy {golden.accuracy:.1%}" if golden.accuracy is not None else ""
    verdict = "passed" if golden.passed else "FAILED"
    return f"{verdict}: {golden.agreement:.1%} of {golden.samples} agree{accuracy}; {golden.detail}"


def _conditions(found: Measurement) -> Iterator[str]:
    state = found.conditions
    if state.temperature_mc:
        yield " to ".join(f"{t / 1000:.1f}" for t in state.temperature_mc) + " degrees C"
    if state.frequency_khz:
        yield " to ".join(f"{f / 1000:.0f}" for f in state.frequency_khz) + " MHz"
    if state.governor:
        yield f"governor {state.governor}"
    if state.load_1min is not None:
        yield f"load {state.load_1min:.2f}"
    known = {
        True: f"throttled: {', '.join(state.throttle_reasons)}",
        False: "not throttled",
        None: "throttling unknown",
    }
    yield known[state.throttled]
