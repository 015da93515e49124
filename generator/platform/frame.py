"""What every object of the platform shares: names, labels, and the settings that it is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from berth import labels
from berth.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from generator.charts.frames import Object

NAMESPACE = "berth-system"
WEBHOOK = "berth-webhook"
WATCHER = "berth-watcher"
FLEET, FLEET_KEY = "berth-fleet", "berth.yaml"
FLEET_FOLDER = "/etc/berth"
CERTIFICATES = "berth-webhook-certificates"
CERTIFICATES_FOLDER = "/etc/berth-certificates"
PRIORITY_CLASS = "berth-system"

HTTPS_PORT, PLAIN_PORT = 8443, 8080
"""Of the pods: admission, and health with metrics."""

RBAC = "rbac.authorization.k8s.io"

Certificates = Literal["own", "cert-manager"]
NO_FLEET = "# No fleet file: every field has its default.\n{}\n"


@dataclass(frozen=True)
class Settings:
    """What a platform is made from; the text is the fleet file as it stands in git."""

    fleet: Fleet = field(default_factory=Fleet)
    text: str = NO_FLEET
    certificates: Certificates = "own"
    watcher: bool = True
    dry_run: bool = False
    """Whether the watcher only says what it would do."""


def thing(
    api_version: str,
    kind: str,
    name: str,
    *,
    component: str | None = None,
    namespaced: bool = False,
    annotations: Mapping[str, str] | None = None,
    extra_labels: Mapping[str, str] | None = None,
    **fields: Any,
) -> Object:
    """Return an object with metadata; `component` is the program that it belongs to."""
    metadata: Object = {"name": name}
    if namespaced:
        metadata["namespace"] = NAMESPACE
    metadata["labels"] = {**common_labels(component), **(extra_labels or {})}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def common_labels(component: str | None) -> dict[str, str]:
    """Labels of every object; what is for one program names it."""
    found = {labels.MANAGED_BY: "berth", labels.PART_OF: "berth"}
    return found if component is None else {**selector(component), **found}


def selector(component: str) -> dict[str, str]:
    """Finds the pods of one program; it never changes, since a Deployment's selector cannot."""
    return {labels.NAME: component, labels.COMPONENT: component.removeprefix("berth-")}
