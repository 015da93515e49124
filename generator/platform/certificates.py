"""Certificates by cert-manager, where the cluster has it: an issuer of our own, its CA, and the server's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from generator.charts.frames import Object

_AUTHORITY = f"{frame.WEBHOOK}-ca"
_API = "cert-manager.io/v1"


def objects() -> Iterator[Object]:
    """Yield issuers and certificates; keys are exchanged with every renewal."""
    yield _thing("Issuer", f"{frame.WEBHOOK}-self-signed", {"selfSigned": {}})
    yield _thing(
        "Certificate",
        _AUTHORITY,
        {
            "isCA": True,
            "commonName": _AUTHORITY,
            "secretName": _AUTHORITY,
            "duration": "43800h0m0s",
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "issuerRef": {"kind": "Issuer", "name": f"{frame.WEBHOOK}-self-signed"},
        },
    )
    yield _thing("Issuer", frame.WEBHOOK, {"ca": {"secretName": _AUTHORITY}})
    service = f"{frame.WEBHOOK}.{frame.NAMESPACE}"
    yield _thing(
        "Certificate",
        frame.WEBHOOK,
        {
            "commonName": frame.WEBHOOK,
            "dnsNames": [frame.WEBHOOK, service, f"{service}.svc", f"{service}.svc.cluster.local"],
            "secretName": frame.CERTIFICATES,
            "duration": "2160h0m0s",
            "usages": ["digital signature", "server auth"],
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "issuerRef": {"kind": "Issuer", "name": frame.WEBHOOK},
        },
    )


def _thing(kind: str, name: str, spec: Object) -> Object:
    return frame.thing(_API, kind, name, component=frame.WEBHOOK, namespaced=True, spec=spec)
