"""The metrics that the programs in the cluster have in common, and how each makes its own."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Of one replica; every name begins with the program's prefix."""

    def __init__(self, prefix: str, *, ready: str, leader: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._prefix = prefix
        self.ready = self._gauge("ready", ready)
        self.leader = self._gauge("leader", leader)
        self._config_good = self._gauge(
            "config_reload_successful", "1 if the fleet file in use is the newest, 0 if the newest is broken"
        )
        self._reloads = self._counter("config_reloads", "Readings of a changed fleet file", "outcome")

    def reloaded(self, good: bool) -> None:
        """Note how reading a changed fleet file went."""
        self._config_good.set(good)
        self._reloads.labels("good" if good else "broken").inc()

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{self._prefix}{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{self._prefix}{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"{self._prefix}{name}", text, labels, registry=self.registry, buckets=_SECONDS)
