"""The command line, its variables, and the plain port."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request

import pytest

from watcher import server, settings
from watcher.metrics import Metrics
from watcher.world import Limits


def test_every_flag_has_its_variable_and_the_command_line_wins() -> None:
    environment = {
        "BERTH_MAX_NODES": "3",
        "BERTH_MAX_COST_PER_HOUR": "12.5",
        "BERTH_DRY_RUN": "true",
        "BERTH_POD_NAME": "watcher-1",
        "BERTH_LEASE_SECONDS": "5",
    }
    found = settings.read(["--max-nodes", "7", "--max-namespace-nodes", "0"], environment)
    assert found.cluster == Limits(nodes=7, cost_per_hour=12.5)
    assert found.each_namespace == Limits(nodes=0)
    assert (found.dry_run, found.identity, found.lease_s) == (True, "watcher-1", 5.0)


def test_without_flags_nothing_is_limited() -> None:
    found = settings.read([], {})
    assert found.cluster == found.each_namespace == Limits()
    assert not found.dry_run


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--max-nodes", "-1"], "must not be negative"),
        (["--max-cost-per-hour", "-1"], "must not be negative"),
        (["--workers", "0"], "must be above 0"),
        (["--lease-seconds", "0"], "must be above 0"),
        (["--max-nodes", "many"], "invalid"),
    ],
    ids=["nodes below 0", "cost below 0", "no worker", "no lease", "a word"],
)
def test_a_value_that_means_nothing_ends_the_program_with_its_reason(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        settings.read(arguments, {})
    assert reason in capsys.readouterr().err


def test_the_plain_port_tells_health_readiness_and_metrics() -> None:
    missing, metrics = ["Nodes"], Metrics()
    metrics.watch("objects", "Objects known", ("kind",), lambda: {("Node",): 3.0})
    place = server.listen("127.0.0.1", 0)
    port = place.getsockname()[1]

    def page(path: str, method: str = "GET") -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    async def scene() -> None:
        async with server.serving(server.Pages(metrics, lambda: " and ".join(missing)), place):
            ask = asyncio.to_thread
            assert await ask(page, "/healthz") == (200, "ok\n")
            assert await ask(page, "/readyz") == (503, "waiting for Nodes\n")
            missing.clear()
            assert await ask(page, "/readyz") == (200, "ready\n")
            assert 'berth_watcher_objects{kind="Node"} 3.0' in (await ask(page, "/metrics"))[1]
            assert (await ask(page, "/else"))[0] == 404
            assert (await ask(page, "/healthz", "POST"))[0] == 405

    asyncio.run(scene())
