"""One figure of one measurement, in the unit of its metric. Pure.

Energy comes in two kinds, and only like is compared with like. The net one is what the load adds to the idle power; a
device withholds it where the load adds too little to be told, which happens to the lightest variants. The gross one,
idle power included, is there wherever energy was measured, and is never less than the net one.
"""

from collections.abc import Iterable

from edgepick_host.core.objective import Metric
from edgepick_host.core.records import Release
from edgepick_wire.enums import StrEnum
from edgepick_wire.metrics import Measurement
from edgepick_wire.pairing import Quad


class EnergyKind(StrEnum):
    """Which energy an inference is said to take."""

    NET = "net"
    """Less the idle power."""
    GROSS = "gross"
    """Idle power included."""


def energy_uj(measurement: Measurement, kind: EnergyKind) -> float | None:
    """Return energy per inference in microjoules; ``None`` if it was not measured, or not in this kind.

    An estimate is no measurement: it is ``None`` here, so that no limit and no objective is decided by it.
    """
    energy = measurement.energy
    if energy.estimated or energy.gross_uj is None:
        return None
    return energy.net_uj if kind is EnergyKind.NET else energy.gross_uj


def energy_kind(measurements: Iterable[Measurement]) -> EnergyKind:
    """Return in which kind measurements are compared: net if each of those that have an energy has a net one."""
    measured = [m for m in measurements if energy_uj(m, EnergyKind.GROSS) is not None]
    return EnergyKind.GROSS if any(energy_uj(m, EnergyKind.NET) is None for m in measured) else EnergyKind.NET


def energy_within(measurement: Measurement, limit_uj: float) -> float | None:
    """Return the energy that is held against a limit, in microjoules: the net one.

    Where that is withheld, a gross one within the limit shows as much, and one above it shows nothing: then, as where
    no energy was measured, it is ``None``.
    """
    net, gross = (energy_uj(measurement, kind) for kind in EnergyKind)
    if net is not None or gross is None:
        return net
    return gross if gross <= limit_uj else None


def metric_value(metric: Metric, release: Release, measurement: Measurement, kind: EnergyKind) -> float | None:
    """Return one metric of one measurement, energy in this kind, in the metric's unit; ``None`` if not measured."""
    if metric is Metric.ERROR:
        return _error(release, measurement)
    return release.size_bytes if metric is Metric.SIZE else measured_value(metric, measurement, kind)


def measured_value(metric: Metric, measurement: Measurement, kind: EnergyKind) -> float | None:
    """Return a metric that the measurement itself tells, energy in this kind; ``None`` if it does not."""
    memory = measurement.memory
    return {
        Metric.LATENCY: measurement.latency.p50_ns,
        Metric.TAIL: measurement.latency.p95_ns,
        Metric.MEMORY: memory.peak_rss_bytes if memory.arena_bytes is None else memory.arena_bytes,
        Metric.ENERGY: energy_uj(measurement, kind),
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
