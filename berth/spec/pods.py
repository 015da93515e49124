"""What concerns pods: the user's additions to them, how they are reached, and a pod template of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth.spec import formats
from berth.spec.nodes import Field, Opaque, Sequence, Struct, Table
from berth.spec.texts import code, quote
from berth.spec.values import Integer, Text

if TYPE_CHECKING:
    from berth.problems import Path
    from berth.spec.reports import Report

SECRET_NAMES = Sequence(Text(formats.DNS_SUBDOMAIN), most=16)
ANNOTATION_VALUE = Text(longest=262_144)
_OURS = ("kaito.sh/", "berth.dev/")


def refuse_our_keys(key: str) -> tuple[str, str] | None:
    """Reason and fix for a label or annotation of a pod that berth sets itself."""
    if key.startswith(_OURS):
        return f"{code(key)} is set by berth itself", "remove it, or use a prefix of your own"
    if key == "app.kubernetes.io/instance":
        return (
            f"{code(key)} is Argo CD's own label",
            "remove it: Argo CD would take the pod for another application's",
        )
    return None


def _judge_toleration(toleration: dict[str, Any], path: Path, report: Report) -> None:
    operator = toleration.get("operator", "Equal")
    if operator == "Exists" and toleration.get("value"):
        report.error(
            (*path, "value"),
            toleration["value"],
            "a toleration with operator `Exists` has no value",
            "remove `value`, or write operator `Equal`",
            "conflict",
        )
    if operator == "Equal" and "key" not in toleration and (*path, "key") not in report.broken:
        report.error(
            path,
            None,
            "a toleration without a key tolerates everything, and then needs operator `Exists`",
            "add `key`, or write operator `Exists`",
            "conflict",
        )
    if "tolerationSeconds" in toleration and toleration.get("effect") != "NoExecute":
        report.error(
            (*path, "tolerationSeconds"),
            toleration["tolerationSeconds"],
            "`tolerationSeconds` needs effect `NoExecute`",
            "remove it, or write effect `NoExecute`",
            "conflict",
        )


TOLERATION = Struct(
    {
        "key": Field(Text(formats.LABEL_KEY), "Key of the taint. Absent with operator Exists: every taint."),
        "operator": Field(
            Text(choices=("Equal", "Exists")), "How key and value are compared.", default="Equal"
        ),
        "value": Field(Text(formats.LABEL_VALUE), "Value of the taint, with operator Equal."),
        "effect": Field(
            Text(choices=("NoSchedule", "PreferNoSchedule", "NoExecute")),
            "Effect of the taint. Absent: every effect.",
        ),
        "tolerationSeconds": Field(Integer(0, 2**31 - 1), "Seconds that a NoExecute taint is tolerated."),
    },
    rules=(
        (
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "operator Exists takes no value",
        ),
        (
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "without a key, operator Exists is needed",
        ),
        (
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds needs effect NoExecute",
        ),
    ),
    verdict=_judge_toleration,
)

POD = Struct(
    {
        "labels": Field(
            Table(formats.LABEL_KEY, Text(formats.LABEL_VALUE), key_verdict=refuse_our_keys),
            "Labels of every pod.",
        ),
        "annotations": Field(
            Table(formats.LABEL_KEY, ANNOTATION_VALUE, key_verdict=refuse_our_keys),
            "Annotations of every pod.",
        ),
        "tolerations": Field(
            Sequence(TOLERATION, most=32),
            "Tolerations of every pod, beside those for GPU nodes that berth writes.",
        ),
        "priorityClassName": Field(Text(formats.DNS_SUBDOMAIN), "PriorityClass of every pod."),
        "runtimeClassName": Field(
            Text(formats.DNS_SUBDOMAIN), "RuntimeClass of every pod, such as `nvidia`."
        ),
        "serviceAccountName": Field(
            Text(formats.DNS_SUBDOMAIN), "ServiceAccount of every pod. Absent: one of the Workspace's own."
        ),
        "imagePullSecrets": Field(SECRET_NAMES, "Names of Secrets for pulling the serving image."),
        "queue": Field(Text(formats.DNS_LABEL), "Kueue's LocalQueue that admits the pods."),
    }
)

PARENT_REF = Struct(
    {
        "name": Field(Text(formats.DNS_SUBDOMAIN), "Name of the Gateway.", required=True),
        "namespace": Field(Text(formats.DNS_LABEL), "Namespace of the Gateway. Absent: the Workspace's."),
        "sectionName": Field(
            Text(formats.DNS_SUBDOMAIN), "Listener of the Gateway. Absent: every one that allows it."
        ),
    }
)
INGRESS = Struct(
    {
        "host": Field(Text(formats.HOST), "Host name that clients use.", required=True),
        "ingressClassName": Field(
            Text(formats.DNS_SUBDOMAIN), "IngressClass. Absent: the cluster's default."
        ),
        "path": Field(Text(formats.URL_PATH), "Path prefix.", default="/"),
        "tlsSecretName": Field(
            Text(formats.DNS_SUBDOMAIN), "Secret with the certificate. Absent: plain HTTP."
        ),
        "annotations": Field(Table(formats.LABEL_KEY, ANNOTATION_VALUE), "Annotations of the Ingress."),
    }
)
HTTP_ROUTE = Struct(
    {
        "parentRefs": Field(
            Sequence(PARENT_REF, most=16, least=1), "Gateways that the route attaches to.", required=True
        ),
        "hostnames": Field(
            Sequence(Text(formats.HOST), most=16), "Host names that clients use. Absent: the Gateway's."
        ),
        "path": Field(Text(formats.URL_PATH), "Path prefix.", default="/"),
    }
)


def _judge_expose(expose: dict[str, Any], path: Path, report: Report) -> None:
    broken = any((*path, name) in report.broken for name in ("ingress", "httpRoute"))
    if len(expose) != 1 and not broken:
        report.error(
            path,
            None,
            f"`expose` has {len(expose)} of `ingress` and `httpRoute`",
            "give exactly one",
            "conflict",
        )


EXPOSE = Struct(
    {
        "ingress": Field(INGRESS, "An Ingress for the Service."),
        "httpRoute": Field(HTTP_ROUTE, "A route of the Gateway API for the Service."),
    },
    rules=(("has(self.ingress) != has(self.httpRoute)", "give exactly one of ingress and httpRoute"),),
    verdict=_judge_expose,
)


def judge_template(template: Any, path: Path, report: Report) -> None:
    """Check what every pod template needs; Kubernetes judges the rest."""
    spec = template.get("spec")
    if not isinstance(spec, dict):
        missing = "spec" not in template
        reason = "`spec` is missing" if missing else f"`spec` is no mapping but {quote(spec)}"
        report.error((*path, "spec"), spec, reason, "add the pod's `spec` with its `containers`", "missing")
        return
    if spec.get("initContainers") is not None:
        _judge_containers(spec["initContainers"], (*path, "spec", "initContainers"), report)
    containers = spec.get("containers")
    if containers is None or containers == []:
        here = (*path, "spec", "containers")
        report.error(
            here, containers, "the pod has no containers", "add one with `name` and `image`", "missing"
        )
        return
    _judge_containers(containers, (*path, "spec", "containers"), report)


def _judge_containers(containers: Any, path: Path, report: Report) -> None:
    if not isinstance(containers, list):
        report.wrong_type(path, containers, "a list", "write it as a list: `- ` before each container")
        return
    seen: set[str] = set()
    for index, container in enumerate(containers):
        here = (*path, index)
        if not isinstance(container, dict):
            report.wrong_type(here, container, "a mapping", "write `name` and `image` of the container")
            continue
        for name, node in (("name", Text(formats.DNS_LABEL)), ("image", Text(longest=512))):
            if name not in container:
                report.error(
                    (*here, name), None, f"`{name}` is missing", f"add the container's `{name}`", "missing"
                )
            else:
                node.read(container[name], (*here, name), report)
        label = container.get("name")
        if isinstance(label, str) and label in seen:
            report.error(
                (*here, "name"),
                label,
                f"two containers are named {code(label)}",
                "give each a name of its own",
                "conflict",
            )
        elif isinstance(label, str):
            seen.add(label)


TEMPLATE = Opaque()
