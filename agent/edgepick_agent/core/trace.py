"""A run as a trace for Perfetto or chrome://tracing.

The format is Chrome's "JSON object format" (Trace Event Format, Duval and others, 2016): complete events
"X" with begin and duration in microseconds, counters "C", names "M".
"""

import dataclasses
from collections.abc import Iterator, Sequence

from edgepick_agent.core.profile import BoardSample, OperatorTable, Phase

PHASES, INFERENCES, OPERATORS = 1, 2, 3
TRACKS = {PHASES: "phases", INFERENCES: "inferences", OPERATORS: "operators, mean times one after another"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """One start of the runner.

    Attributes:
        inferences_ns: Begin and duration of single inferences, in turn.
    """

    phases: Sequence[Phase]
    inferences_ns: Sequence[int]
    during: Sequence[BoardSample]
    operators: OperatorTable | None


Event = dict[str, object]


def trace(starts: Sequence[Traced], *, title: str) -> dict[str, object]:
    """Return the trace of one or more starts of a runner, each as a process of its own."""
    origin = min((phase.start_ns for start in starts for phase in start.phases), default=0)
    events = [e for number, start in enumerate(starts, 1) for e in _events(number, start, origin)]
    return {"displayTimeUnit": "ms", "otherData": {"title": title}, "traceEvents": events}


def _events(process: int, start: Traced, origin: int) -> Iterator[Event]:
    yield _named("process_name", process, 0, f"start {process}")
    for track, name in TRACKS.items():
        yield _named("thread_name", process, track, name)
    for phase in start.phases:
        yield _complete(process, PHASES, phase.name, phase.start_ns - origin, phase.duration_ns)
    pairs = list(zip(start.inferences_ns[::2], start.inferences_ns[1::2], strict=True))
    for begin, duration in pairs:
        yield _complete(process, INFERENCES, "inference", begin - origin, duration)
    for sample in start.during:
        yield from _counters(process, sample, origin)
    if start.operators and pairs:
        yield from _operators(process, start.operators, pairs[0][0] - origin)


def _operators(process: int, table: OperatorTable, begin: int) -> Iterator[Event]:
    for operator in table.operators:
        if operator.mean_ns is None:
            continue
        about = {"kind": operator.kind, "provider": operator.provider, "method": table.method}
        yield {**_complete(process, OPERATORS, operator.name, begin, operator.mean_ns), "args": about}
        begin += operator.mean_ns


def _counters(process: int, sample: BoardSample, origin: int) -> Iterator[Event]:
    figures = {
        "temperature, degrees C": None if sample.temperature_mc is None else sample.temperature_mc / 1000,
        "CPU clock, MHz": None if sample.frequency_khz is None else sample.frequency_khz / 1000,
    }
    for name, value in figures.items():
        if value is not None:
            at = (sample.at_ns - origin) / 1000
            yield {"name": name, "ph": "C", "ts": at, "pid": process, "tid": 0, "args": {"value": value}}


def _complete(process: int, track: int, name: str, begin_ns: int, duration_ns: int) -> Event:
    return {
        "name": name,
        "cat": TRACKS[track],
        "ph": "X",
        "ts": begin_ns / 1000,
        "dur": duration_ns / 1000,
        "pid": process,
        "tid": track,
    }


def _named(kind: str, process: int, track: int, name: str) -> Event:
    return {"name": kind, "ph": "M", "pid": process, "tid": track, "args": {"name": name}}
