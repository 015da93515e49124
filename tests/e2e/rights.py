"""What a program asks of an API server, from the server's own audit log, and what its roles let it ask."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.e2e.conftest import Kubectl

FORBIDDEN = 403


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource; with a name where a role names the object."""

    group: str
    resource: str
    verb: str
    name: str = ""


def flags(folder: Path) -> tuple[str, ...]:
    """Return the API server's flags for a log of who asked what."""
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
    }
    (folder / "audit-policy.yaml").write_text(yaml.safe_dump(policy))
    log = f"--audit-log-path={folder / 'audit.log'}"
    return (f"--audit-policy-file={folder / 'audit-policy.yaml'}", log)


def limited(cluster: Kubectl, folder: Path, account: str, namespace: str, things: Iterable[Any]) -> Path:
    """Bring an account with its roles to the cluster, and return a kubeconfig that has these rights only."""
    text = "---\n".join(json.dumps(one) + "\n" for one in things)
    cluster("create", "namespace", namespace, check=False)
    cluster("create", "serviceaccount", account, "-n", namespace, check=False)
    cluster("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    config = json.loads(cluster.kubeconfig.read_text())
    config["users"] = [
        {"name": "admin", "user": {"token": cluster("create", "token", account, "-n", namespace).out.strip()}}
    ]
    path = folder / f"limited-{account}"
    path.write_text(json.dumps(config))
    return path


def granted(things: Iterable[Any]) -> set[Right]:
    """Return the single rights of all roles among some objects."""
    return {
        Right(group, resource, verb, name)
        for thing in things
        if thing["kind"] in ("Role", "ClusterRole")
        for rule in thing["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames") or [""]
    }


def asked(folder: Path, account: str) -> Iterator[tuple[Right, int]]:
    """Yield what an account asked for, and the answer's status."""
    for line in (folder / "audit.log").read_text().splitlines():
        event = json.loads(line)
        if not event["user"]["username"].endswith(f":{account}") or "objectRef" not in event:
            continue
        place = event["objectRef"]
        resource = "/".join(part for part in (place.get("resource"), place.get("subresource")) if part)
        right = Right(place.get("apiGroup", ""), resource, event["verb"], place.get("name", ""))
        yield right, event.get("responseStatus", {}).get("code", 0)


def used(folder: Path, account: str, roles: set[Right]) -> set[Right]:
    """Return which of some rights an account made use of."""
    found = set()
    for right, _ in asked(folder, account):
        anonymous = Right(right.group, right.resource, right.verb)
        found |= {one for one in (right, anonymous) if one in roles}
    return found


def refused(folder: Path, account: str) -> list[Right]:
    """Return what an account asked for and may not have."""
    return sorted({right for right, status in asked(folder, account) if status == FORBIDDEN})
