"""The webhook's settings from its command line; every flag is also an environment variable, BERTH_<FLAG>."""

from __future__ import annotations

import argparse
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kube import flags
from webhook.certificates.rotation import LIFE_OF_AUTHORITY, LIFE_OF_LEAF

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HTTPS_PORT, PLAIN_PORT = 8443, 8080
NAME = "berth-webhook"
SECRET = "berth-webhook-certificates"
NAMESPACE = "berth-system"

Source = Literal["own", "files", "secret", "made"]
Command = Literal["serve", "rotate"]


@dataclass(frozen=True)
class Settings:
    """Everything that is decided before the first request."""

    command: Command = "serve"
    standalone: bool = False
    host: str = "0.0.0.0"
    port: int = HTTPS_PORT
    plain_port: int | None = PLAIN_PORT
    certificates: Source = "own"
    """`own`: made and exchanged in the cluster; `files`, `secret`: somebody else's; `made`: in a folder."""
    cert_dir: Path | None = None
    fleet: Path | None = None
    kubeconfig: Path | None = None
    namespace: str = NAMESPACE
    name: str = NAME
    """Of the Service, of the Lease and of both webhook configurations."""
    secret: str = SECRET
    identity: str = "berth-webhook"
    dns_names: tuple[str, ...] = ()
    authority_life: timedelta = LIFE_OF_AUTHORITY
    leaf_life: timedelta = LIFE_OF_LEAF
    settle_s: float = 60.0
    poll_s: float = 2.0
    lease_s: float = 15.0
    quiet_s: float = 20.0
    drain_s: float = 60.0
    timeout_s: float = 600.0
    log_level: str = "info"

    @property
    def names(self) -> tuple[str, ...]:
        """What the server's certificate must be good for."""
        if self.standalone:
            return ("localhost", "127.0.0.1", "::1", *self.dns_names)
        service = (self.name, f"{self.name}.{self.namespace}", f"{self.name}.{self.namespace}.svc")
        return (*service, f"{service[-1]}.cluster.local", *self.dns_names)


def parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the parser, with the environment's values as defaults."""
    found = argparse.ArgumentParser(
        prog="python -m webhook",
        description="Answer admission reviews with the check and the plan of `berth`.",
        epilog="Every flag is also an environment variable: --cert-dir is BERTH_CERT_DIR.",
    )
    found.add_argument(
        "command",
        nargs="?",
        choices=["serve", "rotate"],
        default="serve",
        help="`rotate` exchanges the certificates now, and waits until that is done (default: serve)",
    )
    add = found.add_argument
    add("--standalone", action="store_true", help="serve without a cluster, for CI and for curl")
    add("--host", help="address to listen on (default: all; 127.0.0.1 with --standalone)")
    flags.add(found, "--port", int, Settings.port, "of /validate and /mutate")
    add("--plain-port", type=int, help=f"of /healthz, /readyz, /metrics (default {PLAIN_PORT} in a cluster)")
    add("--fleet", type=Path, metavar="berth.yaml", help="the fleet file; read again when it changes")
    add("--kubeconfig", type=Path, help="default: the pod's service account, else your own")
    add("--log-level", default=Settings.log_level, choices=["debug", "info", "warning", "error"])
    _add_certificates(found.add_argument_group("certificates"))
    group = found.add_argument_group("in a cluster")
    flags.add(group, "--namespace", str, Settings.namespace, "our own")
    flags.add(group, "--name", str, Settings.name, "of Service, Lease and webhook configurations")
    flags.add_replica(group, environment, Settings.lease_s)
    group = found.add_argument_group("after SIGTERM")
    group.add_argument(
        "--quiet-seconds",
        type=flags.not_negative,
        default=Settings.quiet_s,
        help="without a request before the port closes (default %(default)s; 0 with --standalone)",
    )
    flags.add(group, "--drain-seconds", flags.positive, Settings.drain_s, "until it closes anyway")
    flags.from_environment(found, environment)
    return found


def _add_certificates(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--certificates",
        choices=["own", "files", "secret"],
        default="own",
        help="own: made, stored in the Secret and exchanged here; files: read from --cert-dir; "
        "secret: read from the Secret, which somebody else keeps (default %(default)s)",
    )
    add("--cert-dir", type=Path, metavar="DIR", help="tls.crt, tls.key, ca.crt; with --standalone made there")
    flags.add(group, "--secret", str, Settings.secret, "name of the Secret")
    add(
        "--dns-name", action="append", default=[], help="a further name or address to be good for; repeatable"
    )
    authority, leaf = Settings.authority_life.days, Settings.leaf_life.days
    flags.add(group, "--authority-days", flags.positive, authority, "life of an authority")
    flags.add(group, "--certificate-days", flags.positive, leaf, "life of a certificate")
    settle = "for API servers to take up a new bundle"
    flags.add(group, "--settle-seconds", flags.not_negative, Settings.settle_s, settle)
    flags.add(group, "--poll-seconds", flags.positive, Settings.poll_s, "between two looks")
    flags.add(group, "--timeout-seconds", flags.positive, Settings.timeout_s, "for `rotate`")


def read(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Settings:
    """Read the command line; like argparse, end the process with what is wrong with it."""
    environment = os.environ if environment is None else environment
    front = parser(environment)
    given = front.parse_args(list(arguments))
    source: Source = given.certificates
    if given.standalone:
        if given.cert_dir is None:
            front.error("--standalone needs --cert-dir")
        source = "files" if source == "files" else "made"
    elif source == "files" and given.cert_dir is None:
        front.error("--certificates files needs --cert-dir")
    plain = given.plain_port
    if plain is None and not given.standalone:
        plain = PLAIN_PORT
    quiet = given.quiet_seconds
    if given.standalone and quiet == front.get_default("quiet_seconds"):
        quiet = 0.0
    return Settings(
        command=given.command,
        standalone=given.standalone,
        host=given.host or ("127.0.0.1" if given.standalone else "0.0.0.0"),
        port=given.port,
        plain_port=plain,
        certificates=source,
        cert_dir=given.cert_dir,
        fleet=given.fleet,
        kubeconfig=given.kubeconfig,
        namespace=given.namespace,
        name=given.name,
        secret=given.secret,
        identity=given.identity or socket.gethostname(),
        dns_names=tuple(given.dns_name),
        authority_life=timedelta(days=given.authority_days),
        leaf_life=timedelta(days=given.certificate_days),
        settle_s=given.settle_seconds,
        poll_s=given.poll_seconds,
        lease_s=given.lease_seconds,
        quiet_s=quiet,
        drain_s=given.drain_seconds,
        timeout_s=given.timeout_seconds,
        log_level=given.log_level,
    )
