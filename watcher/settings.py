"""The watcher's settings from its command line; every flag is also an environment variable, BERTH_<FLAG>."""

from __future__ import annotations

import argparse
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kube import flags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME = "berth-watcher"
NAMESPACE = "berth-system"
PORT = 8080


@dataclass(frozen=True)
class Settings:
    """Everything that is decided before the first pass."""

    kubeconfig: Path | None = None
    fleet: Path | None = None
    host: str = "0.0.0.0"
    port: int = PORT
    """Of /healthz, /readyz and /metrics; 0 is any free one."""
    namespace: str = NAMESPACE
    name: str = NAME
    """Of the Lease."""
    identity: str = NAME
    lease_s: float = 15.0
    workers: int = 8
    """Workspaces that are worked on at the same time; a pass waits for the API server only."""
    resync_s: float = 600.0
    poll_s: float = 2.0
    late_s: float = 60.0
    """For how long a create without an answer may still arrive; API servers give up after a minute."""
    dry_run: bool = False
    log_level: str = "info"


def parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the parser, with the environment's values as defaults."""
    found = argparse.ArgumentParser(
        prog="python -m watcher",
        description="Make the nodes that rendered Workspaces ask for, and tell how far they are.",
        epilog="Every flag is also an environment variable: --dry-run is BERTH_DRY_RUN.",
    )
    add = found.add_argument
    add("--kubeconfig", type=Path, help="default: the pod's service account, else your own")
    add("--fleet", type=Path, metavar="berth.yaml", help="the fleet file; read again when it changes")
    flags.add(found, "--host", str, Settings.host, "address of the port below")
    flags.add(found, "--port", int, Settings.port, "of /healthz, /readyz, /metrics; 0: any")
    add("--log-level", default=Settings.log_level, choices=["debug", "info", "warning", "error"])
    add(
        "--dry-run",
        action="store_true",
        help="make and delete no node; say on the Workspaces what would be done",
    )
    group = found.add_argument_group("in a cluster")
    flags.add(group, "--namespace", str, Settings.namespace, "of the Lease")
    flags.add(group, "--name", str, Settings.name, "of the Lease")
    flags.add_replica(group, environment, Settings.lease_s)
    late = (
        "for which a create that got no answer, or that another leader sent, may still arrive: "
        "so long a deleted Workspace waits"
    )
    flags.add(group, "--late-seconds", flags.not_negative, Settings.late_s, late)
    flags.add(group, "--workers", flags.count, Settings.workers, "Workspaces worked on at the same time")
    often = "every Workspace is looked at this often at least"
    flags.add(group, "--resync-seconds", flags.positive, Settings.resync_s, often)
    flags.add(group, "--poll-seconds", flags.positive, Settings.poll_s, "between two looks at the fleet file")
    flags.from_environment(found, environment)
    return found


def read(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Settings:
    """Read the command line; like argparse, end the process with what is wrong with it."""
    environment = os.environ if environment is None else environment
    given = parser(environment).parse_args(list(arguments))
    return Settings(
        kubeconfig=given.kubeconfig,
        fleet=given.fleet,
        host=given.host,
        port=given.port,
        namespace=given.namespace,
        name=given.name,
        identity=given.identity or socket.gethostname(),
        lease_s=given.lease_seconds,
        workers=given.workers,
        resync_s=given.resync_seconds,
        poll_s=given.poll_seconds,
        late_s=given.late_seconds,
        dry_run=given.dry_run,
        log_level=given.log_level,
    )
