"""What the programs stand on: the CRD, the namespace, their priority and the fleet file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.errors import BerthError
from generator import crd
from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from generator.charts.frames import Object

LARGEST_FLEET_BYTES = 900_000
"""A ConfigMap holds 1 MiB with everything around it."""
PRIORITY = 1_000_000_000
"""The highest that is not the system's own; some clouds allow that only in kube-system."""


class FleetTooLargeError(BerthError):
    """The fleet file does not fit into a ConfigMap."""


def definitions() -> Iterator[Object]:
    """Yield the Workspace's definition and its roles."""
    yield crd.definition()
    yield from crd.roles()


def objects() -> Iterator[Object]:
    """Yield what everything else stands in: a folder is applied by name, so nothing here needs another."""
    security = {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "audit", "warn")
        for suffix, value in (("", "restricted"), ("-version", "latest"))
    }
    yield frame.thing("v1", "Namespace", frame.NAMESPACE, extra_labels=security)
    yield frame.thing(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        frame.PRIORITY_CLASS,
        value=PRIORITY,
        preemptionPolicy="PreemptLowerPriority",
        description="berth's webhook and watcher: without them no Workspace is admitted and no node made.",
    )


def fleet(settings: frame.Settings) -> Iterator[Object]:
    """Yield the fleet file's ConfigMap.

    Raises:
        FleetTooLargeError: the fleet file does not fit into a ConfigMap.
    """
    if len(settings.text.encode()) > LARGEST_FLEET_BYTES:
        raise FleetTooLargeError(
            f"the fleet file has more than {LARGEST_FLEET_BYTES} bytes and fits no ConfigMap; "
            "move models and instance types that are not used out of it"
        )
    yield frame.thing("v1", "ConfigMap", frame.FLEET, namespaced=True, data={frame.FLEET_KEY: settings.text})
