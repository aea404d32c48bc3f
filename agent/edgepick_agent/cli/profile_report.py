"""A profile as text: every figure with its unit, every missing one with its reason."""

from collections.abc import Iterator, Mapping

from edgepick_agent.cli.render import NOT_ESTIMABLE, clip, duration, energy, pairs, size, table
from edgepick_agent.core.intervals import Estimate
from edgepick_agent.core.profile import FixedRate, OperatorTable, Profile, SweepPoint
from edgepick_wire.metrics import GoldenResult, LatencySummary, Measurement, Verdict

MOST_OPERATORS = 15


def report(name: str, found: Measurement) -> str:
    """Return a measurement, or a whole profile, as text."""
    profile = found if isinstance(found, Profile) else None
    sections = [_head(name, found, profile), _times(found, profile)]
    if profile and profile.fixed_rate:
        sections.append(_at_rate(profile.fixed_rate, found))
    sections += [_memory(found), _rest(found)]
    texts = ["\n".join(pairs(section, width=16).splitlines()) for section in sections]
    if profile and profile.operators:
        texts.append(_operators(profile.operators))
    if profile and profile.sweep:
        texts.append(_sweep(profile.sweep))
    return "\n\n".join(texts)


def _head(name: str, found: Measurement, profile: Profile | None) -> Iterator[tuple[str, str]]:
    used = found.runtime
    yield "model", f"{name}, {size(found.memory.model_file_bytes)}"
    yield "machine", found.conditions.machine + (" (stand-in)" if found.conditions.stand_in else "")
    nodes = (
        f", {used.accelerated_nodes} of {used.nodes} nodes" if used.nodes and used.accelerated_nodes is not None else ""
    )
    held = f", CPUs {', '.join(map(str, profile.cpus))}" if profile and profile.cpus else ""
    yield "runtime", f"{used.name} {used.version} on {used.accelerator}{nodes}, {used.threads} thread(s){held}"
    if used.fallback_reason:
        yield "fallback", used.fallback_reason
    if profile and len(profile.placement) > 1:
        yield from (("placement", _placed(p.provider, p.nodes, p.kinds, p.reason)) for p in profile.placement)
    yield "verdict", found.verdict.value + (f": {'; '.join(found.reasons)}" if found.reasons else "")
    if found.verdict is Verdict.INVALID:
        yield "", "do not use these figures; mend what is named above and measure again"


def _placed(provider: str, nodes: int, kinds: Mapping[str, int], reason: str | None) -> str:
    named = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{nodes} on {provider} ({clip(named, 120)})" + (f": {reason}" if reason else "")


def _times(found: Measurement, profile: Profile | None) -> Iterator[tuple[str, str]]:
    intervals = profile.intervals if profile and profile.restarts else {}
    yield "load", duration(found.load_ns) + _ends(intervals.get("load_ns"))
    yield "first inference", duration(found.first_inference_ns) + _ends(intervals.get("first_inference_ns"))
    if profile and profile.restarts:
        yield "starts", f"{len(profile.restarts)}; in brackets: 95 % confidence intervals over starts"
        yield "effective runs", f"{profile.effective_runs or 0:.0f} of {found.latency.runs}"
    yield from _latency(found.latency, intervals)
    yield "throughput", f"{found.throughput_per_s:.4g} inferences/s"


def _latency(latency: LatencySummary, intervals: Mapping[str, Estimate]) -> Iterator[tuple[str, str]]:
    spread = _ends(intervals.get("mean_ns")) or f" +- {duration(latency.stdev_ns)}"
    yield "mean", f"{duration(latency.mean_ns)}{spread} over {latency.runs} runs"
    yield "min, max", f"{duration(latency.min_ns)}, {duration(latency.max_ns)}"
    for percentile in (50, 90, 95, 99):
        value = getattr(latency, f"p{percentile}_ns")
        told = _ends(intervals.get(f"p{percentile}_ns")) if value is not None else ""
        yield f"p{percentile}", duration(value, missing=NOT_ESTIMABLE) + told


def _ends(found: Estimate | None) -> str:
    """Return an interval in brackets; what is missing of it says so."""
    if found is None:
        return ""
    if found.low is None and found.high is None:
        return f" [{NOT_ESTIMABLE}: {found.reason}]" if found.reason else ""
    low, high = (duration(end, missing=NOT_ESTIMABLE) for end in (found.low, found.high))
    return f" [{low} to {high}]"


def _at_rate(rate: FixedRate, found: Measurement) -> Iterator[tuple[str, str]]:
    yield "fixed rate", f"{rate.rate_per_s:g}/s, busy {rate.duty_cycle:.1%} of the time, {rate.late} began late"
    yield from _latency(rate.latency, rate.intervals if any(e.low for e in rate.intervals.values()) else {})
    back_to_back, paced = found.latency.p50_ns, rate.latency.p50_ns
    if back_to_back and paced:
        yield "to back-to-back", f"p50 is {paced / back_to_back:.2f} times as long"
    if rate.gross_uj is not None:
        yield "energy", f"{energy(rate.gross_uj)} per inference, the waiting included"


def _memory(found: Measurement) -> Iterator[tuple[str, str]]:
    memory = found.memory
    yield "peak memory", size(memory.peak_rss_bytes)
    yield "steady memory", size(memory.steady_rss_bytes)
    yield "private memory", size(memory.private_bytes)
    yield "proportional", size(memory.proportional_bytes)
    yield "loaded model", size(memory.session_bytes)
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
    if spent.estimated:
        return f"about {energy(spent.gross_uj)} per inference, ESTIMATED, not measured: {spent.reason}"
    net = (spent.reason or "no net figure") if spent.net_uj is None else f"{energy(spent.net_uj)} above idle"
    return f"{energy(spent.gross_uj)} per inference, {net} ({spent.source}, covers the {spent.scope})"


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
    if state.foreign_cpus is not None:
        yield f"others used {state.foreign_cpus:.2f} CPUs"
    known = {
        True: f"throttled: {', '.join(state.throttle_reasons)}",
        False: "not throttled",
        None: "throttling unknown",
    }
    yield known[state.throttled]


def _operators(found: OperatorTable) -> str:
    if not found.operators:
        return f"operators: {found.reason}"
    total = sum(o.mean_ns or 0 for o in found.operators) or 1
    slowest = sorted(found.operators, key=lambda o: -(o.mean_ns or 0))[:MOST_OPERATORS]
    rows = [
        (
            clip(o.name, 36),
            clip(o.kind, 22),
            clip(o.provider, 22),
            duration(o.mean_ns),
            f"{(o.mean_ns or 0) / total:.1%}",
        )
        for o in slowest
    ]
    head = table(("slowest operators", "kind", "runs on", "mean", "share"), rows)
    more = f"{len(found.operators) - len(rows)} more in --json\n" if len(found.operators) > len(rows) else ""
    return f"{head}\n{more}by {found.method}, {found.runs} runs" + (f"; {found.reason}" if found.reason else "")


def _sweep(points: tuple[SweepPoint, ...]) -> str:
    rows = [
        (
            str(p.threads),
            "+".join(map(str, p.cpus)) or "all",
            *_measured(p),
        )
        for p in points
    ]
    return table(("threads", "CPUs", "mean", "p50", "throughput", "verdict"), rows)


def _measured(point: SweepPoint) -> tuple[str, str, str, str]:
    if point.latency is None:
        return "-", "-", "-", f"failed: {clip('; '.join(point.reasons), 120)}"
    return (
        duration(point.latency.mean_ns) + (_ends(point.mean_ns) if point.mean_ns.low is not None else ""),
        duration(point.latency.p50_ns, missing=NOT_ESTIMABLE),
        f"{point.throughput_per_s:.4g}/s",
        point.verdict.value,
    )
