"""Whether a measurement can be true, before anything is decided by it. Pure.

A device may lie: its clock jumped, its kernel counts wrongly, or somebody speaks in its name. What cannot be is refused
by the name of its figure; what is only unlikely is judged like everything else, by the worst device.
"""

from collections.abc import Iterator

from edgepick_host.core.figures import EnergyKind, energy_uj
from edgepick_wire.metrics import Measurement, Verdict

LONGEST_NS = 3_600 * 10**9
"""An inference of an hour: sixty times the longest time for which a device measures by default."""
LARGEST_BYTES = 1 << 50
"""A pebibyte: more memory than any machine has."""
LARGEST_UJ = 3.6e12
"""A kilowatt for that hour."""


def unusable(measurement: Measurement) -> str:
    """Return why nothing may be decided by a measurement: its device says so, or it says what cannot be."""
    if measurement.verdict is Verdict.INVALID:
        return "; ".join(measurement.reasons) or "invalid"
    wrong = next(_impossible(measurement), "")
    return f"it reports what cannot be: {wrong}" if wrong else ""


def _impossible(measurement: Measurement) -> Iterator[str]:
    """Yield each figure that cannot be, by its name in the report, with what is possible."""
    yield from _latency(measurement)
    sizes = {"peak_rss_bytes": measurement.memory.peak_rss_bytes, "arena_bytes": measurement.memory.arena_bytes}
    for name, size in sizes.items():
        if size is not None and not 0 < size <= LARGEST_BYTES:
            yield f"memory.{name} is {size}; possible is more than 0, at most 1 PiB"
    for kind in EnergyKind:
        energy = energy_uj(measurement, kind)
        if energy is not None and not 0 < energy <= LARGEST_UJ:
            yield f"an energy of {energy:g} uJ; possible is more than 0, at most an hour of 1 kW"
    yield from _golden(measurement)


def _latency(measurement: Measurement) -> Iterator[str]:
    latency = measurement.latency
    for name in ("min_ns", "p50_ns", "p90_ns", "p95_ns", "p95_high_ns", "p99_ns", "max_ns"):
        value = getattr(latency, name)
        if value is not None and not 0 < value <= LONGEST_NS:
            yield f"latency.{name} is {value}; possible is more than 0, at most an hour"
    if latency.runs < 1:
        yield f"latency.runs is {latency.runs}; possible is 1 or more"


def _golden(measurement: Measurement) -> Iterator[str]:
    golden = measurement.golden
    if golden is None:
        return
    for name, share in (("agreement", golden.agreement), ("accuracy", golden.accuracy)):
        if share is not None and not 0 <= share <= 1:
            yield f"golden.{name} is {share:g}; possible is 0 to 1"
    if golden.mean_abs_error < 0:
        yield f"golden.mean_abs_error is {golden.mean_abs_error:g}; possible is 0 or more"
