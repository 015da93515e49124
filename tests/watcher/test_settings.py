"""The command line, its variables, and the plain port."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from kube.serving import listen
from watcher import server, settings
from watcher.metrics import Metrics


def test_every_flag_has_its_variable_and_the_command_line_wins() -> None:
    environment = {
        "BERTH_FLEET": "/etc/berth/berth.yaml",
        "BERTH_DRY_RUN": "true",
        "BERTH_POD_NAME": "watcher-1",
        "BERTH_LEASE_SECONDS": "5",
        "BERTH_PORT": "9000",
    }
    found = settings.read(["--lease-seconds", "7", "--port", "0"], environment)
    assert found.fleet == Path("/etc/berth/berth.yaml")
    assert (found.dry_run, found.identity) == (True, "watcher-1")
    assert (found.lease_s, found.port) == (7.0, 0)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--workers", "0"], "must be above 0"),
        (["--lease-seconds", "0"], "must be above 0"),
        (["--resync-seconds", "-3"], "must be above 0"),
        (["--port", "http"], "invalid"),
    ],
    ids=["no worker", "no lease", "a time below 0", "a word"],
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
    place = listen("127.0.0.1", 0)
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
