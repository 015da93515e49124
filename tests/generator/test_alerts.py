"""The alerts as Prometheus reads them: promtool plays metrics, and tells who would be woken."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from berth.fleet import Fleet, Monitoring
from generator import platform
from generator.platform import frame

if TYPE_CHECKING:
    from pathlib import Path

RULES = [
    thing["spec"]
    for thing in platform.objects(frame.Settings(Fleet(monitoring=Monitoring(pod_monitor=True))))
    if thing["kind"] == "PrometheusRule"
]
WELL = {
    'berth_webhook_ready{pod="a"}': "1+0x120",
    'berth_webhook_certificate_not_after_seconds{pod="a"}': "8640000+0x120",
    'berth_webhook_config_reload_successful{pod="a"}': "1+0x120",
    'berth_watcher_ready{pod="a"}': "1+0x120",
    'berth_watcher_leader{pod="a"}': "1+0x120",
    'berth_watcher_leader{pod="b"}': "0+0x120",
    'berth_watcher_passes_total{pod="a",outcome="Ready"}': "0+10x120",
    'berth_watcher_config_reload_successful{pod="a"}': "1+0x120",
}
BUCKET = "berth_webhook_admission_review_duration_seconds_bucket"
ILL: dict[str, dict[str, str]] = {
    "BerthWebhookDown": {'berth_webhook_ready{pod="a"}': "0+0x120"},
    "BerthWebhookFails": {
        'apiserver_admission_webhook_rejection_count{name="workspaces.berth.dev",'
        'error_type="calling_webhook_error"}': "0+1x120"
    },
    "BerthWebhookPassedOver": {
        'apiserver_admission_webhook_fail_open_count{name="pods.berth.dev"}': "0+1x120"
    },
    "BerthWebhookSlow": {f'{BUCKET}{{le="0.25"}}': "0+1x120", f'{BUCKET}{{le="1"}}': "0+2x120",
                         f'{BUCKET}{{le="+Inf"}}': "0+2x120"},
    "BerthCertificateExpires": {'berth_webhook_certificate_not_after_seconds{pod="a"}': "86400+0x120"},
    "BerthFleetFileBroken": {'berth_webhook_config_reload_successful{pod="a"}': "0+0x120"},
    "BerthWatcherDown": {'berth_watcher_ready{pod="a"}': "0+0x120"},
    "BerthWatcherWithoutLeader": {'berth_watcher_leader{pod="a"}': "0+0x120"},
    "BerthWatcherFails": {'berth_watcher_passes_total{pod="a",outcome="failed"}': "0+1x120"},
    "BerthWatcherFleetFileBroken": {'berth_watcher_config_reload_successful{pod="a"}': "0+0x120"},
}  # fmt: skip
"""What goes wrong, for two hours, and the one alert that it raises."""


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("NOT TESTED with Prometheus: promtool is not in PATH")
    return found


def names() -> list[str]:
    return [rule["alert"] for spec in RULES for group in spec["groups"] for rule in group["rules"]]


def test_every_alert_has_a_case() -> None:
    assert set(names()) == set(ILL)


@pytest.mark.parametrize("alert", [None, *ILL], ids=lambda alert: alert or "all is well")
def test_only_what_is_wrong_wakes_somebody(promtool: str, tmp_path: Path, alert: str | None) -> None:
    series = {**WELL, **(ILL[alert] if alert else {})}
    check: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "100m",
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else [],
            }
        ],
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES[0]))
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [check]}))
    done = subprocess.run(
        [promtool, "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
