"""A cluster where all is well, as the doctor's questions would find it: made from what we install."""

from __future__ import annotations

import base64
import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from berth.fleet import Fleet
from generator import platform
from generator.doctor.facts import Absent
from generator.platform import frame

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=60)
FLEET = Fleet()
MISSING = Absent("Error from server (NotFound)", missing=True)

Answers = dict[str, Any]


def authority(end: datetime) -> str:
    """A CA that runs out then, as a webhook configuration holds it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(end - timedelta(days=365))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


GOOD_BUNDLE = authority(NOW + timedelta(days=300))


def listed(*things: Any) -> dict[str, Any]:
    return {"kind": "List", "items": list(things)}


def well(fleet: Fleet = FLEET) -> Answers:
    """A cluster where the platform runs, made from what we install."""
    things = {
        (thing["kind"], thing["metadata"]["name"]): copy.deepcopy(thing)
        for thing in platform.objects(frame.Settings(fleet))
    }
    crd = json.loads(json.dumps(things[("CustomResourceDefinition", "workspaces.kaito.sh")]))
    crd["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
    configurations = [
        things[(kind, frame.WEBHOOK)]
        for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
    ]
    for configuration in configurations:
        for hook in configuration["webhooks"]:
            hook["clientConfig"]["caBundle"] = GOOD_BUNDLE
    deployments = [things[("Deployment", name)] for name in (frame.WEBHOOK, frame.WATCHER)]
    for deployment in deployments:
        deployment["status"] = {"readyReplicas": 2}
    return {
        "version": {"serverVersion": {"gitVersion": "v1.36.2"}},
        "crd": crd,
        "karpenter v1": {"resources": [{"name": "nodeclaims"}, {"name": "nodepools"}]},
        "karpenter v1alpha5": MISSING,
        "leader-worker sets": MISSING,
        "prometheus operator": MISSING,
        "cert-manager": MISSING,
        "validating": listed(configurations[0]),
        "mutating": listed(configurations[1]),
        "deployments": listed(*deployments),
        "leases": listed(
            *(lease(name, NOW - timedelta(seconds=5)) for name in (frame.WEBHOOK, frame.WATCHER))
        ),
        "endpoints": listed(),
        "fleet": things[("ConfigMap", frame.FLEET)],
        "nodes": listed(node(gpus="2")),
        "daemonsets": listed({"metadata": {"name": "nvidia-device-plugin"}}),
        "workspaces": listed(),
        "nodeclaims": listed(),
        "machines": MISSING,
        "KAITO's nodeclaims": listed(),
        "KAITO's machines": MISSING,
        "admission": "workspace.kaito.sh/berth-doctor-probe\n",
        "webhook metrics": f"berth_webhook_certificate_not_after_seconds {LATER.timestamp()}\n"
        "berth_webhook_config_reload_successful 1.0\n",
        "watcher metrics": "berth_watcher_config_reload_successful 1.0\n",
        "node class": {"metadata": {"name": "default"}},
    }


def lease(name: str, renewed: datetime) -> Any:
    spec = {"holderIdentity": f"{name}-a", "leaseDurationSeconds": 15, "renewTime": renewed.isoformat()}
    return {"metadata": {"name": name}, "spec": spec}


def node(gpus: str | None = None, name: str = "n1") -> Any:
    allocatable = {"cpu": "8"} if gpus is None else {"nvidia.com/gpu": gpus}
    found: Any = {"metadata": {"name": name, "labels": {}}, "status": {"allocatable": allocatable}}
    found["spec"] = {"taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]}
    return found
