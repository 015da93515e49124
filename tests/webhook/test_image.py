"""The webhook's image, built and started for real; `tests/images.py` says how and when."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from tests import images
from tests.images import inside, page
from tests.serving.processes import free_port
from tests.webhook.asking import body, rendered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

IMAGE = "localhost/berth-test-webhook:0.1.0"
LARGEST_BYTES = 100 * 2**20
"""What the image may add to its base: Python with its packages, and our own code."""
END_SECONDS = 20


@pytest.fixture(scope="module")
def base() -> str:
    return images.base("webhook")


@pytest.fixture(scope="module")
def image(base: str) -> str:
    images.build("webhook", IMAGE, "--build-arg", f"BASE={base}")
    return IMAGE


@pytest.fixture
def container(image: str, tmp_path: Path) -> Iterator[tuple[str, int, int]]:
    """The program as a restricted pod runs it, with its ports; its certificates lie in the test's folder."""
    tmp_path.chmod(0o777)
    (tmp_path / "berth.yaml").write_text("networkPolicy: enforced\n")
    port, plain = free_port(), free_port()
    with images.running(
        image, "--standalone", f"--port={port}", f"--plain-port={plain}", "--cert-dir=/certificates",
        "--fleet=/certificates/berth.yaml",
        mounts=(f"{tmp_path}:/certificates",), up=lambda: page(plain, "/readyz")[0] == 200,
    ) as name:  # fmt: skip
        yield name, port, plain


def _validate(port: int, authority: Path, document: Any) -> dict[str, Any]:
    trusted = ssl.create_default_context(cafile=str(authority))
    connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=trusted)
    try:
        connection.request("POST", "/validate", body(document), {"Content-Type": "application/json"})
        answered: dict[str, Any] = json.loads(connection.getresponse().read())["response"]
        return answered
    finally:
        connection.close()


def test_the_image_judges_reviews_over_tls_and_ends_when_told(
    container: tuple[str, int, int], tmp_path: Path
) -> None:
    name, port, plain = container
    workspace = next(iter(rendered("Workspace").values()))
    assert _validate(port, tmp_path / "ca.crt", workspace)["allowed"] is True
    workspace["inference"] = {"preset": {"name": "no-such-model"}}
    refused = _validate(port, tmp_path / "ca.crt", workspace)
    assert refused["allowed"] is False
    assert "no-such-model" in refused["status"]["message"]

    assert page(plain, "/readyz") == (200, "ready\n")

    seconds, code = images.end(name)
    assert seconds < END_SECONDS
    assert code == 0


def test_the_image_has_what_a_cluster_needs(image: str) -> None:
    told = inside(image, "python -m webhook --kubeconfig /tmp/none 2>&1 || echo ended with $?")
    assert "no credentials for an API server" in told
    assert "ended with" in told


def test_nothing_in_the_image_is_writable_or_compiles(image: str) -> None:
    assert images.weaknesses(image) == []


def test_the_image_is_small(image: str, base: str) -> None:
    assert images.size(image) - images.size(base) < LARGEST_BYTES
