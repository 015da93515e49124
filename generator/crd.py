"""The Workspace's CustomResourceDefinition and its roles, made from the same tables that read specs.

`berth install` writes them. There is no default in the schema: an absent
field is the planner's choice, and the API server must not make it look like the user's.
"""

from __future__ import annotations

from typing import Any

from berth import labels
from berth.spec import formats, schema

Object = dict[str, Any]

PLURAL = "workspaces"
NAME = f"{PLURAL}.{labels.GROUP}"

_CONDITION: Object = {
    "type": "object",
    "description": "One aspect of the Workspace's state.",
    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
    "properties": {
        "type": {
            "type": "string",
            "maxLength": 316,
            "description": "ResourceReady, InferenceReady, WorkspaceReady, NodeClaimReady, MachineReady, "
            "Ready, Reconciling, Stalled or NotRendered.",
        },
        "status": {
            "type": "string",
            "enum": ["True", "False", "Unknown"],
            "description": "If it holds.",
        },
        "reason": {
            "type": "string",
            "maxLength": 1024,
            "minLength": 1,
            "description": "One word for programs.",
        },
        "message": {"type": "string", "maxLength": 32768, "description": "A sentence for people."},
        "lastTransitionTime": {
            "type": "string",
            "format": "date-time",
            "description": "When `status` changed.",
        },
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "description": "Generation it speaks of.",
        },
    },
}

_NODE: Object = {
    "type": "object",
    "description": "One planned node.",
    "required": ["index", "attempt"],
    "properties": {
        "index": {"type": "integer", "format": "int32", "minimum": 0, "description": "Which of the nodes."},
        "attempt": {
            "type": "integer",
            "format": "int32",
            "minimum": 0,
            "description": "How often it had to be asked for anew.",
        },
        "name": {"type": "string", "maxLength": 63, "description": "Its NodeClaim or Machine."},
        "instanceType": {"type": "string", "maxLength": 63, "description": "Instance type asked for."},
        "node": {"type": "string", "maxLength": 253, "description": "The node, once there is one."},
        "phase": {
            "type": "string",
            "maxLength": 63,
            "description": "Waiting, Launching, Failing, Registering, Initializing or Ready.",
        },
        "reason": {"type": "string", "maxLength": 63, "description": "Why the last attempt failed."},
        "message": {"type": "string", "maxLength": 1024, "description": "The same for people."},
        "failures": {
            "type": "integer",
            "format": "int32",
            "minimum": 0,
            "description": "Attempts that failed in a row.",
        },
        "since": {"type": "string", "format": "date-time", "description": "When it was asked for."},
        "retryAt": {"type": "string", "format": "date-time", "description": "When it is asked for again."},
    },
}

_STATUS: Object = {
    "type": "object",
    "description": "What the watcher has seen; it alone writes it.",
    "properties": {
        "observedGeneration": {
            "type": "integer",
            "format": "int64",
            "description": "Generation of the spec that the status speaks of.",
        },
        "conditions": {
            "type": "array",
            "maxItems": 32,
            "description": "State, aspect by aspect.",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": _CONDITION,
        },
        "workerNodes": {
            "type": "array",
            "maxItems": 1000,
            "description": "Names of the nodes that the Workspace runs on.",
            "items": {"type": "string", "maxLength": 253},
        },
        "nodes": {
            "type": "array",
            "maxItems": 1000,
            "description": "Each planned node that the watcher makes: how far it is, and its attempts.",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["index"],
            "items": _NODE,
        },
        "endpoint": {
            "type": "string",
            "maxLength": 2048,
            "description": "URL under which the model answers.",
        },
        "instanceType": {"type": "string", "maxLength": 63, "description": "Instance type of the nodes."},
        "targetNodeCount": {
            "type": "integer",
            "format": "int32",
            "description": "Nodes that the plan asks for.",
        },
        "replicas": {
            "type": "integer",
            "format": "int32",
            "description": "Copies of the model that are planned.",
        },
        "readyReplicas": {"type": "integer", "format": "int32", "description": "Copies that answer."},
        "state": {"type": "string", "maxLength": 63, "description": "Summary that KAITO writes; not used."},
        "performance": {
            "type": "object",
            "description": "Benchmark that KAITO writes; not used.",
            "x-kubernetes-preserve-unknown-fields": True,
        },
    },
}


def _condition_column(name: str, priority: int = 0) -> Object:
    return _column(name, f'.status.conditions[?(@.type=="{name}")].status', priority)


def _column(name: str, path: str, priority: int = 0, kind: str = "string") -> Object:
    column = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


_COLUMNS: list[Object] = [
    _column("Instance", ".resource.instanceType"),
    _condition_column("ResourceReady"),
    _condition_column("InferenceReady"),
    _condition_column("WorkspaceReady"),
    _column("Age", ".metadata.creationTimestamp", kind="date"),
    _column("Preset", ".inference.preset.name", 1),
    _column("Nodes", ".status.targetNodeCount", 1, "integer"),
    _column("Replicas", ".status.replicas", 1, "integer"),
    _condition_column("Ready", 1),
    _column("Endpoint", ".status.endpoint", 1),
    _column("Reason", '.status.conditions[?(@.type=="Ready")].reason', 1),
]


def definition() -> Object:
    """Return the CustomResourceDefinition; both versions are the same, so nothing converts them."""
    versions = [
        {
            "name": version,
            "served": True,
            "storage": version == labels.VERSIONS[-1],
            "schema": {"openAPIV3Schema": _schema()},
            "subresources": {"status": {}},
            "additionalPrinterColumns": _COLUMNS,
        }
        for version in labels.VERSIONS
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME, "labels": {labels.PART_OF: "berth"}},
        "spec": {
            "group": labels.GROUP,
            "names": {
                "kind": labels.KIND,
                "listKind": f"{labels.KIND}List",
                "plural": PLURAL,
                "singular": "workspace",
                "shortNames": ["wk", "wks"],
                "categories": ["workspace"],
            },
            "scope": "Namespaced",
            "conversion": {"strategy": "None"},
            "versions": versions,
        },
    }


def roles() -> tuple[Object, Object]:
    """Return the cluster roles that Kubernetes adds to its own `view` and to `edit` and `admin`."""
    view = _role("view", ["get", "list", "watch"], "view")
    edit = _role("edit", ["create", "update", "patch", "delete", "deletecollection"], "edit", "admin")
    return view, edit


def _role(name: str, verbs: list[str], *into: str) -> Object:
    aggregate = {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true" for role in into}
    resources = [PLURAL, f"{PLURAL}/status"] if name == "view" else [PLURAL]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"berth-workspaces-{name}", "labels": {**aggregate, labels.PART_OF: "berth"}},
        "rules": [{"apiGroups": [labels.GROUP], "resources": resources, "verbs": verbs}],
    }


def _schema() -> Object:
    whole = schema.WORKSPACE.schema()
    properties = dict(whole["properties"])
    for name in ("apiVersion", "kind"):
        properties[name] = {"type": "string", "description": properties[name]["description"]}
    properties["metadata"] = {"type": "object"}
    properties["status"] = _STATUS
    form = formats.WORKSPACE_NAME
    rules = [
        {"rule": "has(self.inference) || has(self.tuning)", "message": "inference is missing"},
        {
            "rule": f"self.metadata.name.matches('{form.pattern}') "
            f"&& self.metadata.name.size() <= {form.longest}",
            "message": f"metadata.name is no {form.noun}",
        },
    ]
    return {
        "type": "object",
        "description": "A model to serve, and the nodes to serve it on.",
        "properties": properties,
        "x-kubernetes-validations": rules,
    }
