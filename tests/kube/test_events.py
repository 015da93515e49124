"""Events are said once, counted when they repeat, and nothing fails because of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from kube import errors, events
from kube.events import Recorder, shorten

if TYPE_CHECKING:
    from kube.client import Client

WORKSPACE = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": "phi", "namespace": "chat", "uid": "u1"},
}
CLAIM = {"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": {"name": "ws1", "uid": "c1"}}


class Server:
    """Notes what is sent; `refusals` are raised in their turn."""

    def __init__(self, *refusals: errors.KubeError | None) -> None:
        self.refusals = list(refusals)
        self.created: list[dict[str, Any]] = []
        self.patched: list[tuple[str, dict[str, Any], str]] = []

    def _refuse(self) -> None:
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal

    async def create(self, _: Any, body: dict[str, Any]) -> None:
        self._refuse()
        self.created.append(body)

    async def patch(self, _: Any, name: str, patch: dict[str, Any], *, namespace: str) -> None:
        self._refuse()
        self.patched.append((name, patch["series"], namespace))


class Clock:
    """Time as a test wants it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def recorder(server: Server, clock: Clock) -> Recorder:
    return Recorder(cast("Client", server), controller="berth.dev/watcher", instance="replica-0", clock=clock)


def say(to: Recorder, note: str = "a node", about: dict[str, Any] = WORKSPACE) -> bool:
    """Record it; whether a request was made."""
    return asyncio.run(to.record(about, "Normal", "NodeRequested", note, "Reconcile"))


def test_an_event_names_what_it_is_about() -> None:
    server = Server()
    assert say(recorder(server, Clock()))
    (made,) = server.created
    assert made["metadata"]["namespace"] == "chat"
    assert made["metadata"]["name"].startswith("phi.")
    assert made["regarding"] == {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace",
        "name": "phi", "uid": "u1", "namespace": "chat",
    }  # fmt: skip
    assert (made["type"], made["reason"], made["note"]) == ("Normal", "NodeRequested", "a node")
    assert (made["reportingController"], made["reportingInstance"]) == ("berth.dev/watcher", "replica-0")


def test_an_event_about_what_has_no_namespace_stands_in_default() -> None:
    server = Server()
    say(recorder(server, Clock()), about=CLAIM)
    assert server.created[0]["metadata"]["namespace"] == "default"
    assert "namespace" not in server.created[0]["regarding"]


def test_the_same_sentence_is_a_series_and_is_sent_every_five_minutes() -> None:
    server, clock = Server(), Clock()
    one = recorder(server, clock)
    assert [say(one), say(one), say(one)] == [True, False, False]
    clock.now = events.QUIET_S
    assert say(one)
    name = server.created[0]["metadata"]["name"]
    ((patched, series, namespace),) = server.patched
    assert (patched, series["count"], namespace) == (name, 4, "chat")


def test_another_sentence_or_another_object_is_another_event() -> None:
    server = Server()
    one = recorder(server, Clock())
    assert say(one)
    assert say(one, "another node")
    assert say(one, about=CLAIM)
    assert len({made["metadata"]["name"] for made in server.created}) == 3


def test_a_series_that_the_server_has_forgotten_begins_anew() -> None:
    server, clock = Server(None, errors.NotFound(404)), Clock()
    one = recorder(server, clock)
    say(one)
    clock.now = events.QUIET_S
    say(one)
    assert len(server.created) == 2
    assert not server.patched


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(errors.Forbidden(403), id="a right is missing"),
        pytest.param(errors.Unreachable("no answer"), id="no server"),
    ],
)
def test_an_event_that_cannot_be_written_fails_nothing_and_is_tried_later(refusal: errors.KubeError) -> None:
    server, clock = Server(refusal), Clock()
    one = recorder(server, clock)
    assert say(one)
    assert not say(one)
    clock.now = events.QUIET_S
    assert say(one)
    assert len(server.created) == 1


def test_the_oldest_sentences_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "REMEMBERED", 2)
    server = Server()
    one = recorder(server, Clock())
    assert [say(one, note) for note in ("a", "b", "c", "c", "a")] == [True, True, True, False, True]


def test_a_note_is_cut_at_a_whole_character_where_the_api_would_refuse_it() -> None:
    assert shorten("x" * events.NOTE_BYTES) == "x" * events.NOTE_BYTES
    cut = shorten("ä" * events.NOTE_BYTES)
    assert cut.endswith("ä…")
    assert len(cut.encode()) <= events.NOTE_BYTES
