"""``edgepick-agent compare A.json B.json``: two measurements side by side, and whether they may be compared at all."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from edgepick_agent.cli.options import json_option
from edgepick_agent.cli.render import NOT_ESTIMABLE, as_json_text, clip, duration, energy, size, table
from edgepick_agent.core.intervals import Estimate
from edgepick_agent.core.profile import PROFILE_SCHEMA, Profile
from edgepick_agent.errors import ConfigError
from edgepick_wire import codec
from edgepick_wire.errors import WireError
from edgepick_wire.metrics import Verdict

NOISE_SIGMAS = 2.0
"""Means closer than so many standard errors of their difference are called equal (Welch, 1947)."""


@click.command()
@click.argument("first", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("second", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
def compare(*, first: Path, second: Path, as_json: bool) -> None:
    """Compare two results of `edgepick-agent benchmark --json`."""
    a, b = _read(first), _read(second)
    rows, doubts = list(_rows(a, b)), list(_doubts(a, b))
    if as_json:
        figures = [{"figure": name, "first": x, "second": y, "ratio": _ratio(x, y)} for name, x, y, _ in rows]
        click.echo(as_json_text({"figures": figures, "doubts": doubts}))
        return
    shown = [(name, write(x), write(y), _percent(_ratio(x, y))) for name, x, y, write in rows]
    click.echo(table(("", clip(first.name, 28), clip(second.name, 28), "second"), shown))
    for doubt in doubts:
        click.echo(f"doubt: {doubt}")


def _read(path: Path) -> Profile:
    hint = "Write one with: edgepick-agent benchmark MODEL --json > FILE"
    try:
        found = codec.decode_document(Profile, path.read_bytes())
    except (OSError, WireError) as error:
        raise ConfigError(f"{path}: not a measurement: {error}", hint=hint) from error
    if found.latency.runs < 1:
        raise ConfigError(f"{path}: not a measurement: latency.runs is {found.latency.runs}", hint=hint)
    if found.profile_schema > PROFILE_SCHEMA:
        text = f"{path}: profile_schema is {found.profile_schema}, and {PROFILE_SCHEMA} is the newest known here"
        raise ConfigError(text, hint="Compare with the edgepick-agent that wrote it, or a newer one.")
    return found


Row = tuple[str, float | None, float | None, Callable[[float | None], str]]
"""A figure of both measurements, and how it is written."""


def _rows(a: Profile, b: Profile) -> Iterator[Row]:
    yield "load", a.load_ns, b.load_ns, duration
    yield "first inference", a.first_inference_ns, b.first_inference_ns, duration
    yield "mean", a.latency.mean_ns, b.latency.mean_ns, duration
    for p in (50, 90, 95, 99):
        found = [getattr(each.latency, f"p{p}_ns") for each in (a, b)]
        yield f"p{p}", found[0], found[1], _percentile
    yield "peak memory", a.memory.peak_rss_bytes, b.memory.peak_rss_bytes, size
    yield "private memory", a.memory.private_bytes, b.memory.private_bytes, size
    yield "model file", a.memory.model_file_bytes, b.memory.model_file_bytes, size
    yield "energy", a.energy.gross_uj, b.energy.gross_uj, energy


def _percentile(nanoseconds: float | None) -> str:
    return duration(nanoseconds, missing=NOT_ESTIMABLE)


def _ratio(a: float | None, b: float | None) -> float | None:
    return b / a if a and b is not None else None


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio - 1:+.1%}"


def _doubts(a: Profile, b: Profile) -> Iterator[str]:
    """Yield why the figures may mean less than they seem to."""
    for name, each in (("first", a), ("second", b)):
        if each.verdict is not Verdict.VALID:
            yield f"the {name} is {each.verdict.value}: {'; '.join(each.reasons)}"
        if each.golden is not None and not each.golden.passed:
            yield f"the {name} gives wrong answers: {each.golden.detail}"
    yield from _unlike(a, b)
    yield from _energies(a, b)
    yield from _within_noise(a, b)


def _unlike(a: Profile, b: Profile) -> Iterator[str]:
    """Yield in what the two were not measured alike."""
    if a.conditions.machine != b.conditions.machine:
        yield f"two machines: {a.conditions.machine} and {b.conditions.machine}"
    if a.plan.threads != b.plan.threads:
        yield f"{a.plan.threads} and {b.plan.threads} threads"
    if a.cpus != b.cpus:
        yield f"on {_held(a)} against {_held(b)}"
    if (a.runtime.name, a.runtime.accelerator) != (b.runtime.name, b.runtime.accelerator):
        yield f"{a.runtime.name} on {a.runtime.accelerator} against {b.runtime.name} on {b.runtime.accelerator}"


def _held(found: Profile) -> str:
    return f"CPUs {', '.join(map(str, found.cpus))}" if found.cpus else "all CPUs"


def _energies(a: Profile, b: Profile) -> Iterator[str]:
    """Yield why the energies may not be set against each other."""
    if any(each.energy.estimated for each in (a, b)):
        yield "energy was estimated from CPU time, not measured: nothing follows from it"
    elif None not in (a.energy.gross_uj, b.energy.gross_uj) and _sensor(a) != _sensor(b):
        yield f"energy by {_sensor(a)} against {_sensor(b)}"


def _sensor(found: Profile) -> str:
    return f"{found.energy.source} (covers the {found.energy.scope})"


def _within_noise(a: Profile, b: Profile) -> Iterator[str]:
    """Yield why the means may be equal: by their intervals over starts, or without these by their runs alone."""
    first, second = (each.intervals.get("mean_ns", Estimate()) for each in (a, b))
    if None not in (first.low, first.high, second.low, second.high):
        apart = _exceeds(first.low, second.high) or _exceeds(second.low, first.high)
        yield from () if apart else ("the 95 % intervals of the mean latencies over starts overlap",)
        return
    error = math.hypot(*(each.latency.stdev_ns / math.sqrt(each.latency.runs) for each in (a, b)))
    if abs(a.latency.mean_ns - b.latency.mean_ns) <= NOISE_SIGMAS * error:
        yield "the mean latencies are equal to within their noise"
    yield "no intervals over starts: two starts of the same model differ too, by some per cent (--restarts 20)"


def _exceeds(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low > high
