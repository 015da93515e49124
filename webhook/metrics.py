"""What operators watch: admissions, certificates, and whether the configuration in use is the newest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kube import metrics
from webhook.certificates.rotation import PHASES

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Counter, Histogram

    from webhook.certificates.authority import Certificate
    from webhook.certificates.rotation import Phase

PREFIX = "berth_webhook_"
_KINDS = frozenset({"Workspace", "Deployment", "StatefulSet", "Pod", "LeaderWorkerSet", "Scale"})


class Metrics(metrics.Metrics):
    """Of one replica."""

    def __init__(self) -> None:
        super().__init__(
            PREFIX,
            ready="1 while this replica wants requests",
            leader="1 while this replica looks after the certificates",
        )
        review = ("endpoint", "operation", "kind")
        self._requests = self._counter(
            "admission_requests", "Reviews by their verdict", *review, "verdict", "dry_run"
        )
        self._seconds = self._histogram(
            "admission_review_duration_seconds",
            "From a review's last byte to its answer",
            *review,
            "allowed",
            "dry_run",
        )
        self._children: dict[tuple[object, ...], tuple[Counter, Histogram]] = {}
        self._refused = self._counter("refused_requests", "Requests that are no review", "code")
        self._leaf_end = self._gauge(
            "certificate_not_after_seconds", "Unix time at which the certificate shown ends"
        )
        self._authority_end = self._gauge(
            "ca_not_after_seconds", "Unix time at which the signing authority ends"
        )
        self._phase = self._gauge(
            "rotation_phase", "1 for the phase that the exchange of certificates is in", "phase"
        )
        self._steps = self._counter("rotation_steps", "Steps of exchanges that were taken", "step")
        self._errors = self._counter(
            "certificate_errors", "Certificates that could not be read, written or loaded", "where"
        )

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

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show what is read only when somebody scrapes."""
        self._gauge(name, text).set_function(value)
