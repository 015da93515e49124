"""What operators watch: the queue, passes and their outcome, watches, the lease, nodes and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

PREFIX = "berth_watcher_"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
Samples = dict[tuple[str, ...], float]


class Metrics:
    """Of one replica."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._live = _Live()
        self.registry.register(self._live)
        self.ready = self._gauge("ready", "1 while `/readyz` says so")
        self.leader = self._gauge("leader", "1 while this replica makes and removes nodes")
        self.terms = self._counter("leader_transitions", "How often this replica began to lead", ())
        self._passes = self._counter(
            "passes", "Passes over Workspaces by what came out: the reason of `Ready`, `gone` or `failed`",
            ("outcome",),
        )  # fmt: skip
        self._seconds = self._histogram("pass_duration_seconds", "From taking a Workspace to the last write")
        self._first_write = self._histogram(
            "event_to_write_seconds", "From an event to the first write that it led to"
        )
        self._actions = self._counter(
            "actions", "What was done: creates and deletes of claims, status patches, …", ("action", "result")
        )
        self._config_good = self._gauge(
            "config_reload_successful", "1 if the fleet file in use is the newest, 0 if the newest is broken"
        )
        self._reloads = self._counter("config_reloads", "Readings of a changed fleet file", ("outcome",))

    def passed(self, outcome: str, seconds: float) -> None:
        """Count a pass."""
        self._passes.labels(outcome).inc()
        self._seconds.observe(seconds)

    def wrote_after(self, seconds: float) -> None:
        """Note how long an event waited for its first write."""
        self._first_write.observe(seconds)

    def acted(self, action: str, result: str) -> None:
        """Count an action."""
        self._actions.labels(action, result).inc()

    def reloaded(self, good: bool) -> None:
        """Note how reading a changed fleet file went."""
        self._config_good.set(good)
        self._reloads.labels("good" if good else "broken").inc()

    def watch(
        self, name: str, text: str, labels: Iterable[str], read: Callable[[], Samples], *, total: bool = False
    ) -> None:
        """Show what is read only when somebody scrapes: a gauge, or a counter that somebody else counts."""
        self._live.add(name, text, tuple(labels), read, total)

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{PREFIX}{name}", text, registry=self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"{PREFIX}{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"{PREFIX}{name}", text, registry=self.registry, buckets=_SECONDS)


class _Live:
    """Asks for values at each scrape, so that labels come and go with what they stand for."""

    def __init__(self) -> None:
        self._sources: list[
            tuple[type[CounterMetricFamily | GaugeMetricFamily], str, str, tuple[str, ...]]
        ] = []
        self._reads: list[Callable[[], Samples]] = []

    def add(
        self, name: str, text: str, labels: tuple[str, ...], read: Callable[[], Samples], total: bool
    ) -> None:
        family = CounterMetricFamily if total else GaugeMetricFamily
        self._sources.append((family, f"{PREFIX}{name}", text, labels))
        self._reads.append(read)

    def collect(self) -> Iterable[Metric]:
        for (family, name, text, labels), read in zip(self._sources, self._reads, strict=True):
            found = family(name, text, labels=labels)
            for values, amount in read().items():
                found.add_metric(values, amount)
            yield found
