"""`resource`: which nodes, and how many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth.spec import formats
from berth.spec.nodes import Field, Sequence, Struct, Table
from berth.spec.texts import code
from berth.spec.values import Integer, Text

if TYPE_CHECKING:
    from berth.problems import Path
    from berth.spec.reports import Report

MOST_NODES = 1000
_RESERVED = (
    "kaito.sh/workspace",
    "kaito.sh/workspacenamespace",
    "kaito.sh/ragengine",
    "kaito.sh/ragenginenamespace",
)
_RESERVED_PREFIXES = ("karpenter.kaito.sh/", "berth.dev/")


def refuse_reserved(key: str) -> tuple[str, str] | None:
    """Reason and fix for a selector key that a controller sets on nodes itself."""
    if key in _RESERVED or key.startswith(_RESERVED_PREFIXES):
        return (
            f"{code(key)} is set on nodes by the controllers, so that no Workspace selects another's nodes",
            "select nodes by a label of your own",
        )
    return None


_NOT_RESERVED = (
    "self.all(key, !(key in ['"
    + "', '".join(_RESERVED)
    + "']) && "
    + " && ".join(f"!key.startsWith('{prefix}')" for prefix in _RESERVED_PREFIXES)
    + ")"
)


def _judge_requirement(requirement: dict[str, Any], path: Path, report: Report) -> None:
    operator = requirement.get("operator")
    values = requirement.get("values", ())
    if (*path, "values") in report.broken or operator is None:
        return
    if operator in ("In", "NotIn") and not values:
        report.error(
            (*path, "values"),
            None,
            f"operator `{operator}` needs values",
            "add at least one value",
            "missing",
        )
    elif operator not in ("In", "NotIn") and values:
        report.error(
            (*path, "values"),
            list(values),
            f"operator `{operator}` takes no values",
            "remove `values`, or write operator `In`",
            "conflict",
        )


def _judge_key(key: str, path: Path, report: Report) -> None:
    if refusal := refuse_reserved(key):
        report.error(path, key, *refusal, "reserved")


REQUIREMENT = Struct(
    {
        "key": Field(Text(formats.LABEL_KEY), "Key of the label.", required=True, verdict=_judge_key),
        "operator": Field(
            Text(choices=("In", "NotIn", "Exists", "DoesNotExist")),
            "How the label is compared.",
            required=True,
        ),
        "values": Field(Sequence(Text(formats.LABEL_VALUE), most=64), "Values, with In and NotIn."),
    },
    rules=(
        (
            "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : "
            "!has(self.values) || self.values.size() == 0",
            "In and NotIn need values; Exists and DoesNotExist take none",
        ),
    ),
    verdict=_judge_requirement,
)
SELECTOR = Struct(
    {
        "matchLabels": Field(
            Table(
                formats.LABEL_KEY,
                Text(formats.LABEL_VALUE),
                key_verdict=refuse_reserved,
                rules=((_NOT_RESERVED, "a label that a controller sets on nodes itself selects no nodes"),),
            ),
            "Labels that the nodes carry; nodes that are made for the Workspace get them.",
        ),
        "matchExpressions": Field(
            Sequence(REQUIREMENT, most=32),
            "Further conditions on labels. They become node affinity of the pods.",
        ),
    },
    atomic=True,
    hints={"nodeSelector": "write `matchLabels`"},
)


def _refuse_partition(value: Any, path: Path, report: Report) -> None:
    report.error(
        path,
        value,
        "parts of a GPU (MIG) are not supported: sizes are planned for whole GPUs",
        "remove `partition`",
        "unsupported",
    )


PARTITION = Struct(
    {
        "mode": Field(Text(choices=("mig", "accelerator")), "How the GPU is divided."),
        "profile": Field(Text(longest=63), "MIG profile such as `1g.10gb`."),
        "count": Field(Integer(1, 64), "Number of parts."),
    }
)

RESOURCE = Struct(
    {
        "count": Field(Integer(1, MOST_NODES), "Number of nodes. Absent: as many as one replica needs."),
        "instanceType": Field(
            Text(formats.INSTANCE_TYPE),
            "Instance type of the nodes, in any case. Absent: the cheapest one that fits.",
        ),
        "labelSelector": Field(
            SELECTOR, "Labels of the nodes. Absent: no condition beyond the instance type."
        ),
        "preferredNodes": Field(
            Sequence(Text(formats.DNS_SUBDOMAIN), most=MOST_NODES),
            "Names of nodes to prefer, a preference of the pods' scheduling.",
        ),
        "partition": Field(
            PARTITION,
            "Part of a GPU (KAITO v1beta1).",
            use="refused",
            note="Sizes are planned for whole GPUs.",
            verdict=_refuse_partition,
        ),
    },
    hints={
        "replicas": "write `inference.llamacpp.replicas`",
        "nodeCount": "write `count`",
        "nodes": "write `count`",
        "sku": "write `instanceType`",
        "matchLabels": "move it to `resource.labelSelector.matchLabels`",
    },
)
