"""The platform as a Helm chart, made from the very objects of the Kustomize base.

What a value decides becomes a template's expression, everything else stands in the chart as it is. So the
chart with its own values is the Kustomize base, and a test renders both.
"""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any

from berth import __version__
from generator import platform, synth, texts
from generator.platform import frame, options

if TYPE_CHECKING:
    from collections.abc import Callable

    from generator.charts.frames import Object

NAME = "berth"
FORMAT = "--format=helm"
KUBERNETES = ">=1.30.0-0"
KEEP = {"helm.sh/resource-policy": "keep"}
"""Uninstalling leaves the CRD, and with it every Workspace."""

# Stand for template text until the YAML is written, so that nothing quotes or mistakes them.
_OPEN, _CLOSE, _BRACES = "\ue000", "\ue001", "\ue002"
_IF_MANAGER = '{{- if eq .Values.certificates "cert-manager" }}\n'
_IF_OWN = '{{- if ne .Values.certificates "cert-manager" }}\n'
_IF_NAMESPACE = "{{- if .Values.createNamespace }}\n"
_ELSE, _END = "{{- else }}\n", "{{- end }}\n"
_BARE = re.compile(f'"{_OPEN}(int [^{_CLOSE}]*){_CLOSE}"')
_NAMESPACE = re.compile(rf"(?<![\w-]){re.escape(frame.NAMESPACE)}(?![\w-])")


def files(settings: frame.Settings) -> dict[str, str]:
    """Return the text of every file of the chart, by its path."""
    own, manager = (_templates(settings, certificates) for certificates in ("own", "cert-manager"))
    templates = {}
    for name in [*own, *(name for name in manager if name not in own)]:
        templates[f"templates/{name}"] = platform.HEADER + _either(own.get(name), manager.get(name))
    return {
        "Chart.yaml": _chart(settings),
        "values.yaml": _values(settings),
        "values.schema.json": json.dumps(_SCHEMA, indent=2) + "\n",
        **templates,
    }


def _chart(settings: frame.Settings) -> str:
    chart = {
        "apiVersion": "v2",
        "name": NAME,
        "description": "The Workspace CRD, the admission webhook and the node watcher of berth.",
        "type": "application",
        "version": __version__,
        "appVersion": __version__,
        "kubeVersion": KUBERNETES,
    }
    return platform.HEADER + options.line(settings, FORMAT) + texts.document(chart)


def _values(settings: frame.Settings) -> str:
    images = settings.fleet.images
    return (
        f"{platform.HEADER}"
        "# Of the webhook and of the watcher, each.\nreplicas: 2\n"
        "# Who makes the webhook's certificates: own (itself) or cert-manager.\n"
        f"certificates: {settings.certificates}\n"
        "# Helm's own --create-namespace makes one without the labels for restricted pods.\n"
        "createNamespace: false\n"
        f"{texts.document({'images': {'webhook': images.webhook, 'watcher': images.watcher}})}"
    )


_SCHEMA: Object = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "replicas": {"type": "integer", "minimum": 1},
        "certificates": {"enum": ["own", "cert-manager"]},
        "createNamespace": {"type": "boolean"},
        "images": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"webhook": {"type": "string"}, "watcher": {"type": "string"}},
        },
        "global": {"type": "object"},
    },
}


def _templates(settings: frame.Settings, certificates: frame.Certificates) -> dict[str, str]:
    parts = platform.parts(_with(settings, certificates))
    return {
        f"{folder}/{synth.file_name(thing)}": _template(thing)
        for folder, things in parts.items()
        for thing in things
    }


def _with(settings: frame.Settings, certificates: frame.Certificates) -> frame.Settings:
    return frame.Settings(settings.fleet, settings.text, certificates, settings.watcher, settings.dry_run)


def _template(thing: Object) -> str:
    marked = _marked(copy.deepcopy(thing))
    text = _BARE.sub(lambda found: f"{_OPEN}{found[1]}{_CLOSE}", texts.document(marked))
    text = text.replace(_BRACES, '{{ "{{" }}').replace(_OPEN, "{{ ").replace(_CLOSE, " }}")
    return (
        f"{{{{- if .Values.createNamespace }}}}\n{text}{{{{- end }}}}\n"
        if thing["kind"] == "Namespace"
        else text
    )


def _marked(thing: Object) -> Object:
    found: Object = _walked(thing, lambda text: text.replace("{{", _BRACES))
    kind, name = found["kind"], found["metadata"]["name"]
    if kind == "PriorityClass":
        return found
    fleet = found.pop("data", None)
    found = _walked(found, lambda text: _NAMESPACE.sub(f"{_OPEN}.Release.Namespace{_CLOSE}", text))
    if fleet is not None:
        found["data"] = fleet
    if kind == "CustomResourceDefinition":
        annotations = found["metadata"].get("annotations", {})
        found["metadata"]["annotations"] = {**annotations, **KEEP}
    if kind == "Deployment":
        pod = found["spec"]["template"]["spec"]
        pod["priorityClassName"] = frame.PRIORITY_CLASS
        pod["containers"][0]["image"] = f"{_OPEN}.Values.images.{name.removeprefix('berth-')}{_CLOSE}"
        found["spec"]["replicas"] = f"{_OPEN}int .Values.replicas{_CLOSE}"
    return found


def _walked(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _walked(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_walked(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def _either(own: str | None, manager: str | None) -> str:
    if own == manager and own is not None:
        return own
    if own is None:
        return f"{_IF_MANAGER}{manager}{_END}"
    if manager is None:
        return f"{_IF_OWN}{own}{_END}"
    return f"{_IF_MANAGER}{manager}{_ELSE}{own}{_END}"
