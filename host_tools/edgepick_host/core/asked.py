"""The operator's own limits, judged by bounds on the worst device. Pure.

A limit passes when the bound keeps it, fails when the figure itself breaks it, and is *missing* in between: then it is
not shown, and more samples, inferences or a quieter machine could show it. What nobody measured is missing too. A limit
on energy is one on the net energy; where that is withheld, the gross one can keep the limit, but not break it.
"""

from collections.abc import Mapping

from edgepick_host.core.constraints import Bounded, Constraint
from edgepick_host.core.experiment.intervals import share_lower
from edgepick_host.core.figures import EnergyKind, energy_within, metric_value
from edgepick_host.core.objective import Metric
from edgepick_host.core.records import Release
from edgepick_wire.metrics import Measurement

METRICS = {
    Bounded.LATENCY: Metric.LATENCY,
    Bounded.TAIL: Metric.TAIL,
    Bounded.MEMORY: Metric.MEMORY,
    Bounded.SIZE: Metric.SIZE,
    Bounded.ENERGY: Metric.ENERGY,
}
BASE_UNITS = {
    Bounded.ACCURACY: "share",
    Bounded.LATENCY: "ns",
    Bounded.TAIL: "ns",
    Bounded.MEMORY: "bytes",
    Bounded.SIZE: "bytes",
    Bounded.ENERGY: "uJ",
}
_SURE_TAIL_RUNS = 299
"""From so many runs on, the observed 99th percentile lies above the 95th with 95 % confidence or more."""


def observed(constraint: Constraint, release: Release, usable: Mapping[str, Measurement]) -> dict[str, float | None]:
    """Return the figure on each device; one entry without a name for what no device measures."""
    if constraint.figure is Bounded.ACCURACY:
        return {"": release.accuracy}
    if constraint.figure is Bounded.SIZE:
        return {"": float(release.size_bytes)}
    if constraint.figure is Bounded.ENERGY:
        return {d: energy_within(m, constraint.limit) for d, m in usable.items()}
    return {d: metric_value(METRICS[constraint.figure], release, m, EnergyKind.GROSS) for d, m in usable.items()}


def bounds(constraint: Constraint, release: Release, usable: Mapping[str, Measurement]) -> dict[str, float | None]:
    """Return the bound at 95 % that is judged, on each device: lower for accuracy, upper for the rest.

    Accuracy by Clopper and Pearson on the evaluation set; p95 by the device's own bound, or, from older agents, by the
    smallest order statistic that a report carries and that lies above it (for few runs the maximum). Memory and energy
    are reported as one figure: the worst device.
    """
    if constraint.figure is Bounded.ACCURACY:
        return {"": _accuracy_bound(release)}
    if constraint.figure is Bounded.TAIL:
        return {d: _tail_bound(m) for d, m in usable.items()}
    return observed(constraint, release, usable)


def _accuracy_bound(release: Release) -> float | None:
    if release.accuracy is None or not release.samples:
        return None
    return share_lower(round(release.accuracy * release.samples), release.samples)


def _tail_bound(measurement: Measurement) -> float | None:
    latency = measurement.latency
    if latency.p95_ns is None:
        return None
    if latency.p95_high_ns is not None:
        return latency.p95_high_ns
    if latency.runs >= _SURE_TAIL_RUNS and latency.p99_ns is not None:
        return latency.p99_ns
    return max(latency.max_ns, latency.p95_ns)
