"""Each way in which a write can end, and what is known afterwards."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from berth import labels
from kube import errors
from watcher.acting import Actor, NameTaken
from watcher.metrics import Metrics
from watcher.world import Create, Delete

if TYPE_CHECKING:
    from kube.client import Client
    from kube.events import Recorder
    from watcher.cache import Cache

Object = dict[str, Any]
LATE_S = 60.0
WORKSPACE = {"metadata": {"name": "phi", "namespace": "models", "uid": "u1", "resourceVersion": "7"}}


def claim(owner: str = "u1", uid: str = "c1") -> Object:
    own = {"name": "ws1", "uid": uid, "resourceVersion": "9", "labels": {labels.WORKSPACE_UID: owner}}
    return {"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": own}


class Server:
    """Answers what a test tells it to."""

    def __init__(self, created: Any = None, found: Any = None, deleted: Any = None) -> None:
        self.answers = {"create": created, "get": found, "delete": deleted}
        self.asked: list[str] = []

    async def create(self, *_: Any) -> Any:
        return self._answer("create")

    async def get(self, *_: Any) -> Any:
        return self._answer("get")

    async def delete(self, *_: Any, **__: Any) -> Any:
        return self._answer("delete")

    def _answer(self, what: str) -> Any:
        self.asked.append(what)
        if isinstance(self.answers[what], Exception):
            raise self.answers[what]
        return self.answers[what]


class Notes:
    """Remembers what the cache would be told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def get(self, *_: Any) -> Object:
        return claim()

    def wrote(self, _: Any, thing: Object) -> None:
        self.told.append(f"wrote {thing['metadata']['uid']}")

    def deleting(self, *_: Any) -> None:
        self.told.append("deleting")

    def undo(self, *_: Any) -> None:
        self.told.append("undo")


def act(server: Server, step: Any, check: Any = lambda: None) -> tuple[Notes, Actor]:
    """Carry out one step; what it raises is raised after all is noted."""
    notes = Notes()
    actor = Actor(
        cast("Client", server), cast("Cache", notes), cast("Recorder", None), check, Metrics(),
        lambda: datetime(2026, 11, 28, tzinfo=UTC), LATE_S,
    )  # fmt: skip
    try:
        asyncio.run(actor.act(WORKSPACE, step))
    except errors.KubeError as error:
        notes.told.append(type(error).__name__)
    return notes, actor


TAKEN = errors.AlreadyExists(409, "AlreadyExists")
LOST = errors.Unreachable("no answer")
BROKEN = errors.ApiError(500, "InternalError")
NOT_THERE = errors.NotFound(404, "NotFound")


@pytest.mark.parametrize(
    ("created", "found", "told", "late"),
    [
        (claim(), None, ["wrote c1"], False),
        (TAKEN, claim(), ["wrote c1"], False),
        (LOST, claim(), ["wrote c1"], False),
        (BROKEN, claim(), ["wrote c1"], False),
        (LOST, NOT_THERE, ["Unreachable"], True),
        (BROKEN, NOT_THERE, ["ApiError"], True),
        (LOST, errors.TimedOut("no answer"), ["TimedOut"], True),
        (TAKEN, claim(owner="u2"), ["NameTaken"], False),
        (TAKEN, NOT_THERE, ["AlreadyExists"], False),
        (errors.Forbidden(403, "Forbidden"), claim(), ["Forbidden"], False),
        (errors.Invalid(422, "Invalid"), claim(), ["Invalid"], False),
    ],
    ids=[
        "it is made",
        "it was there and is ours",
        "the answer was lost",
        "the server failed after the write",
        "the answer was lost and nothing is there yet",
        "the server failed and nothing is there yet",
        "neither answer came",
        "somebody else's has the name",
        "it was there and went",
        "a policy forbids it",
        "the schema forbids it",
    ],
)
def test_a_create_ends_with_one_claim_or_with_its_reason(
    created: Any, found: Any, told: list[str], late: bool
) -> None:
    server = Server(created=created, found=found)
    notes, actor = act(server, Create("NodeClaim", claim()))
    assert notes.told == told
    assert (0 < actor.wait_s(WORKSPACE) <= LATE_S) is late
    assert server.asked.count("create") == 1


@pytest.mark.parametrize(
    ("deleted", "told"),
    [
        (None, ["deleting"]),
        (NOT_THERE, ["deleting"]),
        (errors.Conflict(409, "Conflict"), ["deleting"]),
        (errors.Forbidden(403, "Forbidden"), ["deleting", "undo", "Forbidden"]),
        (LOST, ["deleting", "undo", "Unreachable"]),
    ],
    ids=["it is deleted", "it was gone", "its name is another's", "a right is missing", "no answer came"],
)
def test_a_delete_marks_the_claim_unless_it_was_refused(deleted: Any, told: list[str]) -> None:
    notes, _ = act(Server(deleted=deleted), Delete("NodeClaim", "ws1", "c1"))
    assert notes.told == told


@pytest.mark.parametrize(
    "step", [Create("NodeClaim", claim()), Delete("NodeClaim", "ws1", "c1")], ids=["create", "delete"]
)
def test_without_the_lease_nothing_is_sent(step: Any) -> None:
    def check() -> None:
        raise errors.NotLeading("the lease is somebody else's")

    server = Server(created=claim())
    notes, _ = act(server, step, check)
    assert (server.asked, notes.told) == ([], ["NotLeading"])


def test_a_name_that_is_taken_names_its_owner() -> None:
    with pytest.raises(NameTaken, match="NodeClaim ws1 is there already and belongs to u2"):
        raise_of(Server(created=TAKEN, found=claim(owner="u2")))


def test_at_the_beginning_of_a_term_a_create_of_the_one_before_may_still_arrive() -> None:
    notes, actor = act(Server(created=claim()), Create("NodeClaim", claim()))
    assert actor.wait_s(WORKSPACE) == 0
    actor.inherited = frozenset({"u1"})
    assert 0 < actor.wait_s(WORKSPACE) <= LATE_S
    actor._began -= LATE_S
    assert actor.wait_s(WORKSPACE) == 0
    assert notes.told == ["wrote c1"]


def raise_of(server: Server) -> None:
    actor = Actor(
        cast("Client", server), cast("Cache", Notes()), cast("Recorder", None), lambda: None, Metrics(),
        lambda: datetime.now(UTC), LATE_S,
    )  # fmt: skip
    asyncio.run(actor.act(WORKSPACE, Create("NodeClaim", claim())))
