"""How webhook and watcher are reached, and what they may reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from generator.charts.frames import Object

API_SERVER_PORTS = (443, 6443)
"""A policy sees the API server's own port, behind its Service: 443 on the clouds, 6443 elsewhere."""
DNS_PORT = 53


def webhook() -> Iterator[Object]:
    """Yield the webhook's Service and policy; the API server calls from addresses that no selector knows."""
    yield _service(frame.WEBHOOK, ("https", 443, "https"), ("http", frame.PLAIN_PORT, "http"))
    yield _policy(frame.WEBHOOK, frame.HTTPS_PORT, frame.PLAIN_PORT)


def watcher() -> Iterator[Object]:
    """Yield the watcher's Service, which is for metrics alone, and its policy."""
    yield _service(frame.WATCHER, ("http", frame.PLAIN_PORT, "http"))
    yield _policy(frame.WATCHER, frame.PLAIN_PORT)


def _service(component: str, *ports: tuple[str, int, str]) -> Object:
    return frame.thing(
        "v1",
        "Service",
        component,
        component=component,
        namespaced=True,
        spec={
            "type": "ClusterIP",
            "selector": frame.selector(component),
            "ports": [
                {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}
                for name, port, target in ports
            ],
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
        },
    )


def _policy(component: str, *ports: int) -> Object:
    dns = [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return frame.thing(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        component,
        component=component,
        namespaced=True,
        spec={
            "podSelector": {"matchLabels": frame.selector(component)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [_tcp(port) for port in ports]}],
            "egress": [{"ports": dns}, {"ports": [_tcp(port) for port in API_SERVER_PORTS]}],
        },
    )


def _tcp(port: int) -> Object:
    return {"port": port, "protocol": "TCP"}
