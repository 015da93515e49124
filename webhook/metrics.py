"""What operators watch: admissions, certificates, and whether the configuration in use is the newest."""

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

from webhook.certificates.rotation import PHASES

if TYPE_CHECKING:
    from collections.abc import Callable

    from webhook.certificates.authority import Certificate
    from webhook.certificates.rotation import Phase

PREFIX = "berth_webhook_"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_KINDS = frozenset({"Workspace", "Deployment", "StatefulSet", "Pod", "LeaderWorkerSet", "Scale"})


class Metrics:
    """Of one replica."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        review = ("endpoint", "operation", "kind")
        self._requests = self._counter(
            "admission_requests", "Reviews by their verdict", (*review, "verdict", "dry_run")
        )
        self._seconds = Histogram(
            f"{PREFIX}admission_review_duration_seconds",
            "From a review's last byte to its answer",
            (*review, "allowed", "dry_run"),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._children: dict[tuple[object, ...], tuple[Counter, Histogram]] = {}
        self._refused = self._counter("refused_requests", "Requests that are no review", ("code",))
        self.ready = self._gauge("ready", "1 while this replica wants requests")
        self.leader = self._gauge("leader", "1 while this replica looks after the certificates")
        self._leaf_end = self._gauge(
            "certificate_not_after_seconds", "Unix time at which the certificate shown ends"
        )
        self._authority_end = self._gauge(
            "ca_not_after_seconds", "Unix time at which the signing authority ends"
        )
        self._phase = Gauge(
            f"{PREFIX}rotation_phase",
            "1 for the phase that the exchange of certificates is in",
            ("phase",),
            registry=self.registry,
        )
        self._steps = self._counter("rotation_steps", "Steps of exchanges that were taken", ("step",))
        self._errors = self._counter(
            "certificate_errors", "Certificates that could not be read, written or loaded", ("where",)
        )
        self._config_good = self._gauge(
            "config_reload_successful", "1 if the fleet file in use is the newest, 0 if the newest is broken"
        )
        self._reloads = self._counter("config_reloads", "Readings of a changed fleet file", ("outcome",))

    def answered(
        self,
        endpoint: str,
        operation: str,
        kind: str,
        verdict: str,
        allowed: bool,
        dry_run: bool,
        seconds: float,
    ) -> None:
        """Count an answered review."""
        review = (endpoint, operation, kind if kind in _KINDS else "other")
        dry = str(dry_run).lower()
        key = (*review, verdict, allowed, dry)
        if key not in self._children:  # looking both up takes longer than counting
            time = self._seconds.labels(*review, str(allowed).lower(), dry)
            self._children[key] = (self._requests.labels(*review, verdict, dry), time)
        count, time = self._children[key]
        count.inc()
        time.observe(seconds)

    def refused(self, code: int) -> None:
        """Count a request that got an HTTP error."""
        self._refused.labels(str(code)).inc()

    def shows(self, leaf: Certificate) -> None:
        """Note the certificate shown."""
        self._leaf_end.set(leaf.not_after.timestamp())

    def signs(self, authority: Certificate) -> None:
        """Note the authority that signs."""
        self._authority_end.set(authority.not_after.timestamp())

    def phase(self, now: Phase) -> None:
        """Note how far an exchange is."""
        for phase in PHASES:
            self._phase.labels(phase).set(phase == now)

    def step(self, name: str) -> None:
        """Count a step of an exchange."""
        self._steps.labels(name).inc()

    def certificate_error(self, where: str) -> None:
        """Count something about certificates that went wrong."""
        self._errors.labels(where).inc()

    def reloaded(self, good: bool) -> None:
        """Note how reading a changed fleet file went."""
        self._config_good.set(good)
        self._reloads.labels("good" if good else "broken").inc()

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show what is read only when somebody scrapes."""
        self._gauge(name, text).set_function(value)

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{PREFIX}{name}", text, registry=self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"{PREFIX}{name}", text, labels, registry=self.registry)
