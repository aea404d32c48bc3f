"""Devices alike enough to be compared, and the latest result of each variant on each of them.

Two devices of one profile are alike when every variant that both measured really ran on the same
runtime and accelerator on both, and both are (or both are not) the board that they stand for.
Order and repetition of reports change nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgepick_wire.messages import MeasuredVariant
from edgepick_wire.metrics import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """A kind of device as it really ran.

    Attributes:
        profile: Declared kind.
        runs_on: What executed the variants, "runtime/accelerator", sorted; empty without a measurement.
        stand_in: The figures come from machines that stand in for the board; ``None`` without a measurement.
        devices: Members, by id.
    """

    profile: str
    runs_on: tuple[str, ...] = ()
    stand_in: bool | None = None
    devices: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """For people: "raspberry-pi-4, litert/xnnpack, stand-in"."""
        kind = {True: "stand-in", False: "real board", None: ""}[self.stand_in]
        return ", ".join(part for part in (self.profile, " + ".join(self.runs_on), kind) if part)


Results = Mapping[tuple[str, str], MeasuredVariant]
"""``(device, manifest)`` -> the latest result."""


class Told(Protocol):
    """A report, or what is left of one."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def device(self) -> str:
        """Whose it is."""
        ...

    @property
    def session(self) -> int:
        """In which session of the device it was recorded."""
        ...

    @property
    def recorded_at(self) -> float:
        """When, by the device's clock."""
        ...

    @property
    def measurement(self) -> MeasuredVariant | None:
        """The measurement, if it is about one."""
        ...


def latest_results(reports: Iterable[Told]) -> Results:
    """Return the latest measured variant of each device and manifest.

    Latest is by the device's own session and clock, then by id: the order of arrival says nothing,
    because an outbox may be resent.
    """
    newest: dict[tuple[str, str], Told] = {}
    for report in reports:
        if report.measurement is not None:
            key = (report.device, report.measurement.manifest)
            newest[key] = max(report, newest.get(key, report), key=_age)
    return {key: report.measurement for key, report in sorted(newest.items()) if report.measurement is not None}


def _age(report: Told) -> tuple[int, float, str]:
    return report.session, report.recorded_at, report.id


def stratify(profile: str, devices: Sequence[str], manifests: Sequence[str], results: Results) -> tuple[Stratum, ...]:
    """Return the strata of a profile, the one with most devices first.

    A device that measured nothing yet counts with the largest stratum, where it shows as missing;
    one that fits several equally joins the largest of them.
    """
    groups: list[tuple[_Signature, list[str]]] = []
    signatures = {device: _signature(device, manifests, results) for device in sorted(set(devices))}
    for device in sorted(signatures, key=lambda d: (-len(signatures[d].ran), d)):
        group = _fitting(groups, signatures[device])
        if group is None:
            groups.append((signatures[device], [device]))
        else:
            group.append(device)
    strata = [_stratum(profile, members, signatures) for _, members in groups]
    return tuple(sorted(strata, key=lambda s: (-len(s.devices), s.runs_on, s.devices)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    ran: Mapping[str, str]
    stand_in: bool | None

    def agrees(self, other: "_Signature") -> bool:
        alike = all(self.ran[m] == other.ran[m] for m in self.ran.keys() & other.ran.keys())
        return alike and (None in (self.stand_in, other.stand_in) or self.stand_in == other.stand_in)


def _signature(device: str, manifests: Sequence[str], results: Results) -> _Signature:
    measured = {m: r.measurement for m in manifests if (r := results.get((device, m))) and r.measurement}
    flags = {m.conditions.stand_in for m in measured.values()}
    return _Signature(ran={k: ran_on(m) for k, m in measured.items()}, stand_in=True in flags if flags else None)


def _fitting(groups: list[tuple[_Signature, list[str]]], signature: _Signature) -> list[str] | None:
    fitting = [members for first, members in groups if first.agrees(signature)]
    return max(fitting, key=len, default=None)


def _stratum(profile: str, members: list[str], signatures: Mapping[str, _Signature]) -> Stratum:
    runs_on = {on for device in members for on in signatures[device].ran.values()}
    flags = {signatures[device].stand_in for device in members} - {None}
    return Stratum(
        profile=profile,
        runs_on=tuple(sorted(runs_on)),
        stand_in=next(iter(flags), None),
        devices=tuple(sorted(members)),
    )


def ran_on(measurement: Measurement) -> str:
    """Return what executed the model: "litert/xnnpack"."""
    return f"{measurement.runtime.name}/{measurement.runtime.accelerator}"
