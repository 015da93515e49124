"""`berth install`: the platform that a cluster needs once, as objects and as a Kustomize base.

Everything is made from the fleet file alone; nothing here plans or needs Node, and nothing but
`generator.platform.output` writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from generator import synth, texts
from generator.platform import (
    access,
    admission,
    certificates,
    foundation,
    frame,
    monitoring,
    network,
    options,
    order,
    pods,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from generator.charts.frames import Object

Settings = frame.Settings

CRDS = "crds"
HEADER = "# Rendered by `berth install`: edit berth.yaml and render again.\n"
"""How a later render knows the files that are its own."""


def parts(settings: Settings) -> dict[str, list[Object]]:
    """Return every object by the folder that it stands in, both in apply order."""
    made = {
        CRDS: foundation.definitions(),
        "base": foundation.objects(),
        "webhook": _webhook(settings),
        "watcher": _watcher(settings) if settings.watcher else iter(()),
        "monitoring": monitoring.objects(settings) if settings.fleet.monitoring.pod_monitor else iter(()),
        "admission": admission.configurations(settings),
    }
    found = {}
    for folder, things in made.items():
        annotated = [order.annotated(thing, settings.fleet.gitops) for thing in things]
        if annotated:
            found[folder] = annotated
    return found


def objects(settings: Settings) -> list[Object]:
    """Return every object in apply order."""
    return [thing for things in parts(settings).values() for thing in things]


def files(settings: Settings) -> dict[str, str]:
    """Return the text of every file of the Kustomize base, by its path."""
    own = {
        f"{folder}/{synth.file_name(thing)}": text(thing)
        for folder, things in parts(settings).items()
        for thing in things
    }
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(own),
    }
    told = HEADER + options.line(settings) + texts.document(kustomization)
    return {**own, synth.KUSTOMIZATION: told}


def text(thing: Object) -> str:
    """Return the text of one file."""
    return HEADER + texts.document(thing)


def stream(settings: Settings) -> str:
    """Return every object as one text, for `kubectl apply --server-side -f -`."""
    return HEADER + "".join(f"---\n{texts.document(thing)}" for thing in objects(settings))


def _webhook(settings: Settings) -> Iterator[Object]:
    yield from foundation.fleet(settings)
    if settings.certificates == "cert-manager":
        yield from certificates.objects()
    yield from access.webhook(settings)
    yield from network.webhook()
    yield from pods.objects(frame.WEBHOOK, settings.fleet.images.webhook, settings)


def _watcher(settings: Settings) -> Iterator[Object]:
    yield from access.watcher(settings)
    yield from network.watcher()
    yield from pods.objects(frame.WATCHER, settings.fleet.images.watcher, settings)
