"""Reports of measurements, as far as selection looks at them: what ten thousand devices said fits into memory. Pure.

A report comes with everything that a person may want to see later; it is kept whole in the store. What is left here are
the figures that limits, objective and proofs use, the effects of quads instead of the quads, and a digest of the whole
report, so that a decision still depends on every byte of its evidence. Parts that are the same on many devices are one
object.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from edgepick_host.core.experiment.quads import Effects, device_effects
from edgepick_host.core.figures import quad_figures
from edgepick_host.core.objective import Metric
from edgepick_wire import codec
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import MeasuredVariant, Report
from edgepick_wire.metrics import Conditions, Measurement
from edgepick_wire.pairing import PairedRun

Part = TypeVar("Part")
SHARED = 4096
"""Most different parts that are remembered for sharing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedEffects:
    """What a run in quads says: its effects in the metrics that quads measure, and in any other.

    Attributes:
        against: Manifest that the candidate was compared with.
        key: Key of the coin.
    """

    against: str
    key: str
    latency: Effects
    energy: Effects
    other: Effects

    def of(self, metric: Metric) -> Effects:
        """Return the effects in a metric."""
        return {Metric.LATENCY: self.latency, Metric.ENERGY: self.energy}.get(metric, self.other)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredReport:
    """One report of a measurement.

    Attributes:
        measurement: What it says, without quads and without what nothing is decided by.
        paired: What its quads say.
        digest: SHA-256 of the whole report.
    """

    device: str
    id: str
    session: int
    recorded_at: float
    measurement: MeasuredVariant
    paired: PairedEffects | None
    digest: str


def condensed(reports: Iterable[Report]) -> Iterator[MeasuredReport]:
    """Yield the measurements among ``reports``."""
    for report in reports:
        if report.measurement is not None:
            yield _condensed(report, report.measurement)


def _condensed(report: Report, result: MeasuredVariant) -> MeasuredReport:
    found = result.measurement
    run = found.paired if found is not None else None
    return MeasuredReport(
        device=report.device,
        id=report.id,
        session=report.session,
        recorded_at=report.recorded_at,
        measurement=replace(
            result,
            request=_shared(result.request),
            model=_shared(result.model),
            manifest=_shared(result.manifest),
            measurement=None if found is None else _figures(found),
        ),
        paired=None if run is None else _effects(run, report.device),
        digest=digest_of(codec.encode_document(report)),
    )


def _figures(found: Measurement) -> Measurement:
    """Return a measurement without quads and surroundings, its common parts shared."""
    return replace(
        found,
        plan=_shared(found.plan),
        runtime=_shared(found.runtime),
        energy=_shared(found.energy),
        golden=_shared(found.golden),
        conditions=_shared(Conditions(stand_in=found.conditions.stand_in, machine="")),
        reasons=_shared(found.reasons),
        extra=_NOTHING,
        paired=None,
    )


_NOTHING: dict[str, str] = {}


def _effects(run: PairedRun, device: str) -> PairedEffects:
    latency = device_effects(run, device, lambda quad: quad_figures(Metric.LATENCY, quad))
    other = device_effects(run, device, lambda _quad: ())
    energy = other
    if any(quad.energy_uj for quad in run.quads):
        energy = device_effects(run, device, lambda quad: quad_figures(Metric.ENERGY, quad))
    return PairedEffects(
        against=_shared(run.against), key=_shared(run.key), latency=latency, energy=energy, other=other
    )


def _shared(part: Part) -> Part:
    """Return an equal part that was met before, if there is one."""
    return _remembered(part)  # type: ignore[return-value]


@lru_cache(maxsize=SHARED)
def _remembered(part: object) -> object:
    return part
