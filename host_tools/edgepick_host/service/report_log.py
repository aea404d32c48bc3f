"""The reports about a model as the service follows them: those that are new, and what the measurements among them say.

The log itself is the store's. In memory is only what somebody waits for: new reports until every rollout has had them,
and, while a rollout measures or decides, what its measurements come to. Other services may write to the same log: what
they take in is found there.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from edgepick_host.core.measured import MeasuredReport, condensed
from edgepick_host.ports import Store
from edgepick_wire.messages import Report

AT_ONCE = 2000
"""Most reports read from the store in one look, so that the service goes on hearing its fleet meanwhile."""


class Evidence:
    """What measurements say about one model.

    Attributes:
        reports: Every measurement, in the order of the store.
    """

    def __init__(self, reports: Iterable[MeasuredReport] = ()) -> None:
        self.reports: list[MeasuredReport] = []
        self._measured: set[tuple[str, str]] = set()
        self._answered: set[tuple[str, str]] = set()
        self.add(reports)

    def add(self, reports: Iterable[MeasuredReport]) -> None:
        """Take in more of them."""
        for report in reports:
            self.reports.append(report)
            self._measured.add((report.device, report.measurement.manifest))
            self._answered.add((report.device, report.measurement.request))

    def measured(self, device: str, manifest: str) -> bool:
        """Return whether a device has said anything about a variant."""
        return (device, manifest) in self._measured

    def answered(self, device: str, request: str) -> bool:
        """Return whether a device has answered an order."""
        return (device, request) in self._answered


class ReportLog:
    """New reports on their way to the rollouts, and the evidence of models that are being judged."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._position = store.report_count()
        self._counts: dict[str, int] = {}
        self._fresh: dict[str, list[Report]] = {}
        self._evidence: dict[str, Evidence] = {}
        self._reading: dict[str, Iterator[Report]] = {}

    def take(self, reports: Sequence[Report]) -> None:
        """Take in reports that are new in the store, in its order."""
        position = self._store.report_count()
        if position != self._position + len(reports):
            self.refresh()  # another service has written between them
            return
        self._position = position
        for report in reports:
            model = model_of(report)
            if model is not None and model in self._counts:  # whoever begins to follow another reads the store
                self._add(model, [report])

    def refresh(self) -> None:
        """Take in what other services have stored."""
        position = self._store.report_count()
        if position == self._position:
            return
        complete = [self._catch_up(model) for model in self._counts]
        if all(complete):
            self._position = position

    def _catch_up(self, model: str) -> bool:
        """Take in what is new about a model; return whether that is all."""
        read = list(islice(self._store.each_report(model=model, after=self._counts[model]), AT_ONCE))
        self._add(model, read)
        return len(read) < AT_ONCE

    def _add(self, model: str, reports: Sequence[Report]) -> None:
        self._counts[model] += len(reports)
        self._fresh[model] += reports
        if model in self._evidence and model not in self._reading:
            self._evidence[model].add(condensed(reports))

    def after(self, model: str, seen: int) -> tuple[Report, ...]:
        """Return reports about a model that follow the first ``seen``: all, or as many as one look takes."""
        if model not in self._counts:
            self._counts[model] = self._store.report_count(model=model)
            self._fresh[model] = []
        fresh = self._fresh[model]
        first = self._counts[model] - len(fresh)
        if seen >= first:
            return tuple(fresh[seen - first :])
        return tuple(islice(self._store.each_report(model=model, after=seen), AT_ONCE))

    def evidence(self, model: str) -> Evidence | None:
        """Return what measurements say about a model; ``None`` while earlier ones are still being read."""
        if model not in self._evidence:
            self.after(model, self._store.report_count(model=model))
            self._evidence[model] = Evidence()
            self._reading[model] = self._store.each_report(model=model)
        if (reading := self._reading.get(model)) is not None:
            read = list(islice(reading, AT_ONCE))
            self._evidence[model].add(condensed(read))
            if len(read) == AT_ONCE:
                return None
            del self._reading[model]
        return self._evidence[model]

    def fresh_devices(self, model: str) -> frozenset[str]:
        """Return the devices that have reported about a model since :meth:`settle`."""
        return frozenset(report.device for report in self._fresh.get(model, ()))

    def settle(self, judged: Collection[str]) -> None:
        """Forget what every rollout has had, and the evidence of models other than ``judged``."""
        for fresh in self._fresh.values():
            fresh.clear()
        for model in self._evidence.keys() - set(judged):
            del self._evidence[model]
            self._reading.pop(model, None)


def model_of(report: Report) -> str | None:
    """Return the model that a report is about, if it is about one."""
    part = report.measurement or report.install or report.incident or report.shadow
    return part.model if part is not None else None
