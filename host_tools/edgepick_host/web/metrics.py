"""What Prometheus scrapes: the fleet as the store knows it now, and this process."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgepick_host.service.fleet_view import Glance


class FleetCollector(Collector):
    """Figures that are read when they are asked for."""

    def __init__(self, glance: Callable[[], Glance]) -> None:
        self._glance = glance

    def collect(self) -> Iterator[Metric]:
        """Yield the fleet's figures."""
        seen = self._glance()
        yield self._devices(seen)
        yield self._models(seen)
        yield self._rollouts(seen)
        coordinator = GaugeMetricFamily("edgepick_coordinator", "1 while a service decides and rolls out.")
        coordinator.add_metric([], float(seen.coordinator is not None))
        yield coordinator
        reports = CounterMetricFamily("edgepick_reports", "Reports of devices that were taken in.")
        reports.add_metric([], seen.reports)
        yield reports

    def describe(self) -> list[Metric]:
        """Return nothing: names are known when they are read, so that starting needs no database."""
        return []

    @staticmethod
    def _devices(seen: Glance) -> Metric:
        devices = GaugeMetricFamily("edgepick_devices", "Devices that were ever heard.", labels=("profile", "online"))
        for count in seen.profiles:
            profile = count.profile or "unknown"
            devices.add_metric([profile, "true"], count.online)
            devices.add_metric([profile, "false"], count.devices - count.online)
        return devices

    @staticmethod
    def _models(seen: Glance) -> Metric:
        labels = ("model", "profile", "variant", "phase", "refusal")
        models = GaugeMetricFamily("edgepick_model_devices", "Devices by what they say about a model.", labels=labels)
        for count in seen.models:
            names = (
                count.model,
                count.profile or "unknown",
                count.active_label or "",
                count.phase,
                count.refusal or "",
            )
            models.add_metric(names, count.devices)
        return models

    @staticmethod
    def _rollouts(seen: Glance) -> Metric:
        labels = ("rollout", "model", "stage", "state")
        rollouts = GaugeMetricFamily(
            "edgepick_rollout_devices", "Devices of a rollout that has not ended.", labels=labels
        )
        for line in seen.rollouts:
            if not line.stage.terminal:
                waiting = line.devices - line.reached
                states = {"waiting": waiting, "confirmed": line.confirmed, "failed": line.failed}
                states["offered"] = line.reached - line.confirmed - line.failed
                for state, number in states.items():
                    rollouts.add_metric([line.id, line.model, line.stage.value, state], number)
        return rollouts


class Requests:
    """Requests to the API, counted and timed by route."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Counter(
            "edgepick_http_requests", "Requests that were answered.", ("method", "route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "edgepick_http_request_seconds", "Time until the answer.", ("method", "route"), registry=registry
        )

    def note(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Take one request into account."""
        self._count.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


def new_registry(glance: Callable[[], Glance]) -> CollectorRegistry:
    """Return a registry with the fleet's figures and this process's."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(glance))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
