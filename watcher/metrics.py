"""What operators watch: the queue, passes and their outcome, watches, the lease, nodes and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from kube import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

PREFIX = "berth_watcher_"
Samples = dict[tuple[str, ...], float]


class Metrics(metrics.Metrics):
    """Of one replica."""

    def __init__(self) -> None:
        super().__init__(
            PREFIX,
            ready="1 while `/readyz` says so",
            leader="1 while this replica makes and removes nodes",
        )
        self._live = _Live()
        self.registry.register(self._live)
        self.terms = self._counter("leader_transitions", "How often this replica began to lead")
        self._passes = self._counter(
            "passes",
            "Passes over Workspaces by what came out: the reason of `Ready`, `gone` or `failed`",
            "outcome",
        )
        self._seconds = self._histogram("pass_duration_seconds", "From taking a Workspace to the last write")
        self._first_write = self._histogram(
            "event_to_write_seconds", "From an event to the first write that it led to"
        )
        self._actions = self._counter(
            "actions", "What was done: creates and deletes of claims, status patches, …", "action", "result"
        )

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

    def watch(
        self, name: str, text: str, labels: Iterable[str], read: Callable[[], Samples], *, total: bool = False
    ) -> None:
        """Show what is read only when somebody scrapes: a gauge, or a counter that somebody else counts."""
        self._live.add(name, text, tuple(labels), read, total)


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
