"""Pushing to a real registry, over lines that break and doors that are locked; skopeo brings it back."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import httpx
import pytest

from generator import packaging
from generator.packaging import registry as registries
from generator.packaging.credentials import Credentials, Login, find
from generator.packaging.errors import PackagingError
from generator.packaging.registry import parse
from tests.generator.packaging.conftest import Silent, extracted, split

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.generator.packaging.conftest import BrokenLine, ResumingRegistry, Server

ROWS = 4096
"""Of a model of one MiB."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without logins, and pieces that are small enough to break."""
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(registries, "PIECE", 2**18)
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker"


def pulled(skopeo: Callable[..., str], reference: str, out: Path) -> list[dict[str, bytes]]:
    """The files of each layer of an image, as skopeo brings them."""
    skopeo("copy", "--src-tls-verify=false", f"docker://{reference}", f"dir:{out}")
    manifest = json.loads((out / "manifest.json").read_text())
    return [extracted(out / layer["digest"].removeprefix("sha256:")) for layer in manifest["layers"]]


def test_a_model_comes_back_byte_by_byte(
    gguf: Callable[..., Path], registry: Callable[..., Server], skopeo: Callable[..., str], tmp_path: Path
) -> None:
    server = registry()
    parts = split(gguf, "parts", 2)
    packed = packaging.package(parts[0], f"docker://{server.address}/models/tiny:q8_0", Silent())
    assert packed.reference == f"{server.address}/models/tiny:q8_0@{packed.image.root.digest}"
    by_digest = f"{server.address}/models/tiny@{packed.image.root.digest}"
    for number, reference in enumerate((f"{server.address}/models/tiny:q8_0", by_digest)):
        found = pulled(skopeo, reference, tmp_path / f"out-{number}")
        assert found == [{part.name: part.read_bytes()} for part in parts]


def test_large_layers_go_in_pieces_and_only_once(
    gguf: Callable[..., Path], registry: Callable[..., Server]
) -> None:
    server = registry()
    file = gguf(rows=ROWS)
    first = packaging.package(file, f"docker://{server.address}/tiny:1", Silent())
    pieces, uploads = server.requests("PATCH"), server.requests("POST")
    assert pieces == 5 + 2  # a layer of a little more than 1 MiB, and a config for each platform
    second = packaging.package(file, f"docker://{server.address}/tiny:2", Silent())
    assert (server.requests("PATCH"), server.requests("POST")) == (pieces, uploads)
    assert first.image.root == second.image.root


def test_a_line_that_breaks_does_not_break_the_image(
    gguf: Callable[..., Path],
    registry: Callable[..., Server],
    skopeo: Callable[..., str],
    broken_line: Callable[[str, list[int]], BrokenLine],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(registries.Registry.__init__, "__kwdefaults__", {"plain_http": None, "pause": 0.01})
    server = registry()
    line = broken_line(server.address, [700_000, 300_000, 300_000])
    file = gguf(rows=ROWS)
    progress = Silent()
    packaging.package(file, f"docker://{line.address}/tiny:1", progress)
    assert line.broken == 3
    done, size = progress.told["pushing"]
    assert done == size
    assert pulled(skopeo, f"{server.address}/tiny:1", tmp_path / "out") == [{file.name: file.read_bytes()}]


def test_a_registry_that_keeps_what_came_gets_only_the_rest(
    gguf: Callable[..., Path],
    resuming: ResumingRegistry,
    broken_line: Callable[[str, list[int]], BrokenLine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registries.Registry.__init__, "__kwdefaults__", {"plain_http": None, "pause": 0.01})
    line = broken_line(resuming.address, [700_000, 300_000])
    packed = packaging.package(gguf(rows=ROWS), f"docker://{line.address}/tiny:1", Silent())
    assert line.broken == 2
    assert resuming.uploads == 3  # one a blob, however often the line broke
    assert set(resuming.blobs) == {blob.digest for blob in packed.image.blobs}
    assert packed.image.root.data == resuming.manifests["1"]


@pytest.mark.parametrize("bytes_", [20_000, 700_000], ids="after {} bytes".format)
def test_a_line_that_never_holds_is_given_up(
    gguf: Callable[..., Path],
    registry: Callable[..., Server],
    broken_line: Callable[[str, list[int]], BrokenLine],
    monkeypatch: pytest.MonkeyPatch,
    bytes_: int,
) -> None:
    monkeypatch.setattr(registries.Registry.__init__, "__kwdefaults__", {"plain_http": None, "pause": 0.01})
    line = broken_line(registry().address, [bytes_] * 100)
    with pytest.raises(PackagingError, match=r"the connection broke .*, 5 times"):
        packaging.package(gguf(rows=ROWS), f"docker://{line.address}/tiny:1", Silent())


def test_a_registry_that_is_not_there_is_told(
    gguf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries.Registry.__init__, "__kwdefaults__", {"plain_http": None, "pause": 0})
    with pytest.raises(PackagingError, match=r"127\.0\.0\.1:9 cannot be reached"):
        packaging.package(gguf(), "docker://127.0.0.1:9/tiny:1", Silent())


def test_without_a_login_it_says_how_to_log_in(
    gguf: Callable[..., Path], registry: Callable[..., Server]
) -> None:
    server = registry(password=True)
    with pytest.raises(PackagingError, match=f"docker login {server.address}"):
        packaging.package(gguf(), f"docker://{server.address}/tiny:1", Silent())


def login(address: str) -> dict[str, object]:
    return {"auths": {address: {"auth": base64.b64encode(b"berth:secret").decode()}}}


def test_dockers_login_is_used(
    gguf: Callable[..., Path], registry: Callable[..., Server], home: Path
) -> None:
    server = registry(password=True)
    (home / "config.json").write_text(json.dumps(login(server.address)))
    packaging.package(gguf(), f"docker://{server.address}/tiny:1", Silent())
    assert server.requests("PUT") == 3 + 3


def test_a_credential_helper_is_asked(
    gguf: Callable[..., Path], registry: Callable[..., Server], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = registry(password=True)
    helper = home / "docker-credential-mine"
    helper.write_text(
        "#!/bin/sh\nread key\n"
        'printf \'{"ServerURL": "%s", "Username": "berth", "Secret": "secret"}\' "$key"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:/usr/bin:/bin")
    (home / "config.json").write_text(json.dumps({"credHelpers": {server.address: "mine"}}))
    packaging.package(gguf(), f"docker://{server.address}/tiny:1", Silent())


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"auths": {"r.example": {"auth": "YTpiOmM="}}}, Credentials("a", "b:c")),
        ({"auths": {"https://r.example/v1/": {"username": "a", "password": "b"}}}, Credentials("a", "b")),
        ({"auths": {"r.example": {"identitytoken": "t"}}}, Credentials(identity="t")),
        (
            {
                "auths": {
                    "r.example": {"username": "wide", "password": "x"},
                    "r.example/team": {"username": "near", "password": "y"},
                }
            },
            Credentials("near", "y"),
        ),
        ({"auths": {"other.example": {"auth": "YTpi"}}}, None),
        ({}, None),
    ],
    ids=["a login", "an old key", "an identity token", "the nearest of two", "another registry", "none"],
)
def test_logins_are_found(home: Path, config: object, found: Credentials | None) -> None:
    (home / "config.json").write_text(json.dumps(config))
    assert find("r.example", "team/model") == found


def test_a_broken_login_file_is_named(home: Path) -> None:
    (home / "config.json").write_text("{")
    with pytest.raises(PackagingError, match=r"docker/config\.json cannot be read"):
        find("r.example", "model")


def test_a_challenge_for_a_token_is_answered_once_and_nobody_else_gets_it() -> None:
    seen: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        given = request.headers.get("Authorization")
        seen.append((request.url.host, given))
        if request.url.host == "auth.example":
            assert dict(request.url.params) == {"service": "r", "scope": "repository:m:pull,push"}
            return httpx.Response(200, json={"token": "t"})
        if request.url.host == "r.example" and given != "Bearer t":
            challenge = 'Bearer realm="https://auth.example/token",service="r",scope="repository:m:pull"'
            return httpx.Response(401, headers={"WWW-Authenticate": challenge})
        return httpx.Response(200)

    auth = Login("r.example", "repository:m:pull,push", Credentials("a", "b"))
    with httpx.Client(auth=auth, transport=httpx.MockTransport(answer)) as client:
        for address in ("https://r.example/v2/", "https://r.example/v2/", "https://storage.example/upload"):
            assert client.get(address).status_code == 200
    assert seen == [
        ("r.example", None),
        ("auth.example", "Basic YTpi"),
        ("r.example", "Bearer t"),
        ("r.example", "Bearer t"),
        ("storage.example", None),
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("r.example/models/m:q4_k_m", ("r.example", "models/m", "q4_k_m")),
        ("localhost:5000/m:1", ("localhost:5000", "m", "1")),
        ("[::1]:5000/m:1", ("[::1]:5000", "m", "1")),
        ("team/m:1", ("docker.io", "team/m", "1")),
        ("m:1", ("docker.io", "library/m", "1")),
    ],
    ids=["a registry", "a port", "an address", "Docker Hub", "Docker Hub's own"],
)
def test_references_are_read_as_docker_reads_them(text: str, parts: tuple[str, str, str]) -> None:
    reference = parse(text)
    assert (reference.host, reference.repository, reference.tag) == parts
