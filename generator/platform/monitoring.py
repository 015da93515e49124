"""Objects for Prometheus: what it reads, and when somebody is woken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from generator.charts.frames import Object

_API = "monitoring.coreos.com/v1"
_DAY_SECONDS = 86_400


def objects(settings: frame.Settings) -> Iterator[Object]:
    """Yield the ServiceMonitors and the alerts."""
    programs = [frame.WEBHOOK, frame.WATCHER] if settings.watcher else [frame.WEBHOOK]
    for component in programs:
        yield frame.thing(
            _API,
            "ServiceMonitor",
            component,
            component=component,
            namespaced=True,
            extra_labels=settings.fleet.monitoring.labels,
            spec={
                "selector": {"matchLabels": frame.selector(component)},
                "endpoints": [{"port": "http", "path": "/metrics", "scheme": "http"}],
            },
        )
    alerts = [*_webhook_alerts(), *(_watcher_alerts() if settings.watcher else ())]
    yield frame.thing(
        _API,
        "PrometheusRule",
        "berth",
        namespaced=True,
        extra_labels=settings.fleet.monitoring.labels,
        spec={"groups": [{"name": "berth", "rules": alerts}]},
    )


def _webhook_alerts() -> Iterator[Object]:
    yield _alert(
        "BerthWebhookDown",
        "absent(berth_webhook_ready == 1)",
        "5m",
        "critical",
        "No replica of the webhook is ready: Workspaces and their workloads can't be changed.",
    )
    yield _alert(
        "BerthWebhookFails",
        'sum(rate(apiserver_admission_webhook_rejection_count{name=~".+[.]berth[.]dev",'
        'error_type="calling_webhook_error"}[5m])) > 0',
        "5m",
        "critical",
        "The API server can't reach the webhook, and refuses Workspaces and workloads.",
    )
    yield _alert(
        "BerthWebhookPassedOver",
        'sum(rate(apiserver_admission_webhook_fail_open_count{name=~".+[.]berth[.]dev"}[5m])) > 0',
        "10m",
        "warning",
        "The API server lets pods through unchecked, because the webhook does not answer.",
    )
    yield _alert(
        "BerthWebhookSlow",
        "histogram_quantile(0.99, sum by (le) (rate(berth_webhook_admission_review_duration_seconds_bucket"
        "[10m]))) > 0.5",
        "10m",
        "warning",
        "One admission in a hundred takes longer than half a second.",
    )
    yield _alert(
        "BerthCertificateExpires",
        f"min(berth_webhook_certificate_not_after_seconds) - time() < {7 * _DAY_SECONDS}",
        "1h",
        "critical",
        "The webhook's certificate runs out within a week, and was not renewed.",
    )
    yield _alert(
        "BerthFleetFileBroken",
        "min(berth_webhook_config_reload_successful) == 0",
        "10m",
        "warning",
        "The webhook can't use the fleet file in its ConfigMap, and works with the last good one.",
    )


def _watcher_alerts() -> Iterator[Object]:
    yield _alert(
        "BerthWatcherDown",
        "absent(berth_watcher_ready == 1)",
        "5m",
        "critical",
        "No replica of the watcher is ready: no GPU node is made or removed, and no status is written.",
    )
    yield _alert(
        "BerthWatcherWithoutLeader",
        "sum(berth_watcher_leader) == 0",
        "5m",
        "critical",
        "No replica of the watcher leads: no GPU node is made or removed, and no status is written.",
    )
    yield _alert(
        "BerthWatcherFails",
        'sum(rate(berth_watcher_passes_total{outcome="failed"}[10m])) > 0',
        "15m",
        "warning",
        "The watcher cannot finish its work on a Workspace; its log says why.",
    )
    yield _alert(
        "BerthWatcherFleetFileBroken",
        "min(berth_watcher_config_reload_successful) == 0",
        "10m",
        "warning",
        "The watcher can't use the fleet file in its ConfigMap, and works with the last good one.",
    )


def _alert(name: str, expression: str, duration: str, severity: str, summary: str) -> Object:
    return {
        "alert": name,
        "expr": expression,
        "for": duration,
        "labels": {"severity": severity},
        "annotations": {"summary": summary},
    }
