"""Questions to a cluster, asked through the user's own kubectl.

Whoever runs `berth` has kubectl and a kubeconfig that works, with its plugins for logging in; a client of our
own would have to learn all of that again. Nothing here is asked by a program inside the cluster.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from berth.errors import BerthError

_LOGGED = re.compile(r"^[EWIF]\d{4} .*\n?", re.MULTILINE)
"""Lines of kubectl's own log, which say five times what its last line says once."""
REQUEST_SECONDS = 15
"""What the API server may take for one answer."""


class KubectlError(BerthError):
    """kubectl is not there, or the cluster did not do what was asked; the text holds kubectl's own words."""


class NotFound(KubectlError):
    """The cluster has no such object, or serves no such kind."""


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl; absent names mean the kubeconfig's current context and KUBECONFIG's file."""

    context: str | None = None
    kubeconfig: str | None = None
    timeout_s: int = REQUEST_SECONDS

    def __call__(self, *arguments: str, stdin: str | None = None, wait_s: float = 0) -> str:
        """Run it and return what it wrote; `wait_s` is time that the command itself may take beside asking.

        Raises:
            NotFound: what was asked for is not there.
            KubectlError: it failed in another way.
        """
        program = shutil.which("kubectl")
        if program is None:
            raise KubectlError(
                "kubectl is not installed or not in PATH; https://kubernetes.io/docs/tasks/tools"
            )
        try:
            done = subprocess.run(
                [program, *self._chosen(), *arguments],
                input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True, text=True, errors="replace", timeout=self.timeout_s * 3 + wait_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise KubectlError(
                f"kubectl {arguments[0]} gave no answer in time; is the cluster reachable?"
            ) from None
        if done.returncode:
            raise _failure(_LOGGED.sub("", done.stderr).strip() or f"kubectl ended with {done.returncode}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Return what `kubectl … --output json` writes, as data.

        Raises:
            NotFound: what was asked for is not there.
            KubectlError: it failed in another way.
        """
        return _data(self(*arguments, "--output", "json"))

    def items(self, *arguments: str) -> list[Any]:
        """Return the objects of a list.

        Raises:
            NotFound: the cluster serves no such kind.
            KubectlError: it failed in another way.
        """
        found = self.json("get", *arguments)
        return list(found.get("items", [])) if isinstance(found, dict) else []

    def raw(self, path: str) -> str:
        """Return what the API server answers to a path, as text.

        Raises:
            NotFound: there is nothing.
            KubectlError: it failed in another way.
        """
        return self("get", "--raw", path)

    def _chosen(self) -> list[str]:
        found = [f"--request-timeout={self.timeout_s}s"]
        if self.context:
            found.append(f"--context={self.context}")
        if self.kubeconfig:
            found.append(f"--kubeconfig={self.kubeconfig}")
        return found


def _failure(said: str) -> KubectlError:
    missing = (
        "(NotFound)",
        "doesn't have a resource type",
        "no matches for kind",
        "could not find the requested",
    )
    kind = NotFound if any(words in said for words in missing) else KubectlError
    return kind(said.removeprefix("error: "))


def _data(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise KubectlError(f"kubectl wrote no JSON: {text[:80]!r}") from None
