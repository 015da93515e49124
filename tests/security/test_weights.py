"""Weights come from where they should, lie where they should, and take nothing else along."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from generator.packaging.credentials import Credentials, Login
from generator.packaging.errors import PackagingError
from serving.weights import addresses, files
from serving.weights.download import Patience
from serving.weights.errors import MissingWeights, WeightsError
from serving.weights.fetching import Fetch, Order, Wanted
from serving.weights.hub import Hub
from tests.serving.weights.conftest import COMMIT, FakeHub, content
from tests.serving.weights.conftest import hub as hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "m.gguf"


def fetch(fake: FakeHub, folder: Path) -> None:
    client = Hub("org/models", COMMIT, endpoint=fake.hub, token="hf_secret")
    order = Order((Wanted(NAME, fake.sha256(NAME)),), folder, len(fake.files[NAME]))
    Fetch(client, order, lambda line: None, patience=Patience(tries=1, first_pause=0.01)).run()


@pytest.fixture
def public(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """A hub that counts as one of the internet, though its content network stands on this machine."""
    monkeypatch.setattr(addresses, "is_inside", lambda host: False)
    hub.files[NAME] = content(4096)
    return hub


@contextmanager
def listener() -> Iterator[tuple[str, list[bytes]]]:
    """A server that notes what it is asked, and answers nothing."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.settimeout(2)
                    try:
                        heard.append(client.recv(4096))
                    except OSError:
                        heard.append(b"")

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", heard
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_hub_of_the_internet_leads_nobody_inwards(public: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="inside this network"):
        fetch(public, tmp_path / "models")
    assert public.gets == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_not_a_byte_is_sent_inwards(scheme: str, public: FakeHub, tmp_path: Path) -> None:
    with listener() as (place, heard):
        public.cdn = f"{scheme}://{place}"
        with pytest.raises(WeightsError, match="inside this network"):
            fetch(public, tmp_path / "models")
    assert heard == [b""]


def test_a_hub_inside_may_lead_to_its_neighbours(hub: FakeHub, tmp_path: Path) -> None:
    hub.files[NAME] = content(4096)
    fetch(hub, tmp_path / "models")
    assert (tmp_path / "models" / NAME).read_bytes() == hub.files[NAME]
    assert hub.leaked == []


def test_a_hub_inside_leads_nobody_to_the_metadata_service(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files[NAME] = content(4096)
    monkeypatch.setattr(addresses, "is_metadata", lambda text: text == "127.0.0.1")
    with pytest.raises(WeightsError, match="inside this network"):
        fetch(hub, tmp_path / "models")


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,GGUF"])
def test_only_the_web_is_followed(place: str, hub: FakeHub, tmp_path: Path) -> None:
    hub.files[NAME] = content(4096)
    hub.cdn = place
    with pytest.raises(WeightsError, match="not safe"):
        fetch(hub, tmp_path / "models")


@pytest.mark.parametrize(
    ("address", "public_one"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d822", True),
    ],
)
def test_what_counts_as_the_internet(address: str, public_one: bool) -> None:
    assert addresses.is_public(address) is public_one


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "fe80::1"])
def test_metadata_services_are_known(address: str) -> None:
    assert addresses.is_metadata(address)


@pytest.mark.parametrize("name", ["../m.gguf", "a/../../m.gguf", "/etc/m.gguf", "..", "", "a/.."])
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no path below"):
        files.below(tmp_path, name)


def test_a_link_in_the_files_place_is_replaced_and_not_followed(hub: FakeHub, tmp_path: Path) -> None:
    hub.files[NAME] = content(4096)
    other = tmp_path / "other"
    other.write_text("somebody else's")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / NAME).symlink_to(other)
    fetch(hub, folder)
    assert other.read_text() == "somebody else's"
    assert not (folder / NAME).is_symlink()
    assert (folder / NAME).read_bytes() == hub.files[NAME]


def test_a_link_to_a_secret_shows_nothing_of_it(tmp_path: Path) -> None:
    secret = tmp_path / "keys" / "alice"
    secret.parent.mkdir()
    secret.write_text("sk-0123456789")
    link = tmp_path / "model.gguf"
    link.symlink_to(secret)
    with pytest.raises(MissingWeights) as refused:
        files.must_be_gguf(link)
    assert "sk-" not in str(refused.value)


def test_a_login_is_not_sent_without_tls_because_a_registry_says_so() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        challenge = 'Bearer realm="http://auth.example/token",service="r"'
        return httpx.Response(401, headers={"WWW-Authenticate": challenge})

    login = Login("r.example", "repository:m:pull", Credentials("a", "b"))
    with (
        httpx.Client(auth=login, transport=httpx.MockTransport(answer)) as client,
        pytest.raises(PackagingError, match="without TLS"),
    ):
        client.get("https://r.example/v2/")
    assert seen == ["https://r.example/v2/"]
