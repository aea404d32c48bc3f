"""One figure of one measurement, in the unit of its metric. Pure."""

from edgepick_host.core.objective import Metric
from edgepick_host.core.records import Release
from edgepick_wire.metrics import Measurement
from edgepick_wire.pairing import Quad


def energy_uj(measurement: Measurement) -> float | None:
    """Return energy per inference in microjoules, net of idle power where that was measured.

    An estimate is no measurement: it is ``None`` here, so that no limit and no objective is decided by it.
    """
    energy = measurement.energy
    if energy.estimated:
        return None
    return energy.gross_uj if energy.net_uj is None else energy.net_uj


def metric_value(metric: Metric, release: Release, measurement: Measurement) -> float | None:
    """Return one metric of one measurement, in the metric's unit; ``None`` if it was not measured."""
    if metric is Metric.ERROR:
        return _error(release, measurement)
    return release.size_bytes if metric is Metric.SIZE else measured_value(metric, measurement)


def measured_value(metric: Metric, measurement: Measurement) -> float | None:
    """Return a metric that the measurement itself tells; ``None`` if it does not."""
    memory = measurement.memory
    return {
        Metric.LATENCY: measurement.latency.p50_ns,
        Metric.TAIL: measurement.latency.p95_ns,
        Metric.MEMORY: memory.peak_rss_bytes if memory.arena_bytes is None else memory.arena_bytes,
        Metric.ENERGY: energy_uj(measurement),
    }.get(metric)


def _error(release: Release, measurement: Measurement) -> float | None:
    if release.accuracy is not None:
        return 1 - release.accuracy
    return measurement.golden.mean_abs_error if measurement.golden else None


def exact(metric: Metric, release: Release, measurement: Measurement) -> bool:
    """Return whether a figure is a fact about the variant, which measuring it again would not change."""
    if metric is Metric.MEMORY:
        return measurement.memory.arena_bytes is not None
    return metric is Metric.SIZE or (metric is Metric.ERROR and release.accuracy is not None)


def quad_figures(metric: Metric, quad: Quad) -> tuple[float, ...]:
    """Return a quad's four figures in a metric; nothing where quads do not measure it."""
    if metric is Metric.LATENCY:
        return quad.latency_ns
    return quad.energy_uj if metric is Metric.ENERGY else ()
