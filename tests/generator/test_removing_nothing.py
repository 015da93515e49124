"""`berth install --remove` where nothing of berth's ever was."""

from __future__ import annotations

from generator.kubectl import Kubectl, NotFound
from generator.platform.removal import Removal


class Bare(Kubectl):
    """A cluster that knows nothing of berth, as kubectl tells of it."""

    def __call__(self, *arguments: str, stdin: str | None = None, wait_s: float = 0) -> str:
        if arguments[0] == "api-resources":
            return "configmaps\nservices\n"
        if arguments[:2] == ("get", "workspaces.kaito.sh"):
            raise NotFound('the server doesn\'t have a resource type "workspaces"')
        if "deployment" in arguments or "validatingwebhookconfiguration" in arguments:
            raise NotFound("Error from server (NotFound)")
        return '{"items": []}' if arguments[0] == "get" else ""


def test_it_ends_well_and_claims_nothing_that_is_not_there() -> None:
    said: list[str] = []
    assert Removal(Bare(), said.append).run() == 0
    assert said[-1] == "Nothing stays: the CRD workspaces.kaito.sh is not in this cluster."
    assert not any("0 Workspaces" in line for line in said)
