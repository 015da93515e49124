"""How pods are reached: Services, NetworkPolicy, PodMonitor, and what `expose` asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth import labels
from generator.charts import workloads
from generator.charts.frames import LEADER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.workspaces import HttpRoute, Ingress
    from generator.charts.frames import Frame, Object


def service(frame: Frame, target: str | int = "http") -> Object:
    """Return the Service; of several nodes only the leaders answer."""
    balanced = frame.workspace.annotations.get(labels.ENABLE_LOAD_BALANCER) == "True"
    spec: Object = {
        "type": "LoadBalancer" if balanced else "ClusterIP",
        "selector": {**frame.selector, **({labels.ROLE: LEADER} if frame.spans_nodes else {})},
        "ports": [{"name": "http", "port": labels.SERVICE_PORT, "targetPort": target, "protocol": "TCP"}],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
    }
    if balanced:
        spec |= {"allocateLoadBalancerNodePorts": True, "externalTrafficPolicy": "Cluster"}
    return frame.object("v1", "Service", frame.name, spec=spec)


def headless_service(frame: Frame) -> Object:
    """Return the Service behind the host names of a group; they resolve before the pods are ready."""
    return frame.object(
        "v1",
        "Service",
        workloads.headless_name(frame),
        spec={
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": frame.selector,
            "ports": [
                {"name": "rpc", "port": labels.RPC_PORT, "targetPort": labels.RPC_PORT, "protocol": "TCP"}
            ],
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
            "publishNotReadyAddresses": True,
        },
    )


def network_policy(frame: Frame) -> Object:
    """Return the NetworkPolicy: API and metrics for all, the engine's RPC for the Workspace's own pods."""
    ingress: list[Object] = [{"ports": [_port(labels.PORT), _port(labels.METRICS_PORT)]}]
    if frame.spans_nodes:
        ingress.append(
            {
                "from": [{"podSelector": {"matchLabels": frame.selector}}],
                "ports": [_port(labels.RPC_PORT)],
            }
        )
    return frame.object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        frame.name,
        spec={
            "podSelector": {"matchLabels": frame.selector},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    )


def pod_monitor(frame: Frame) -> Object:
    """Return the Prometheus operator's PodMonitor."""
    return frame.object(
        "monitoring.coreos.com/v1",
        "PodMonitor",
        frame.name,
        extra_labels=frame.fleet.monitoring.labels,
        spec={
            "selector": {"matchLabels": frame.selector},
            "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics", "scheme": "http"}],
        },
    )


def exposed(frame: Frame) -> Iterator[Object]:
    """Yield what leads from outside the cluster to the Service."""
    expose = frame.workspace.inference.llamacpp.expose
    if expose is None:
        return
    if expose.ingress is not None:
        yield _ingress(frame, expose.ingress)
    if expose.http_route is not None:
        yield _http_route(frame, expose.http_route)


def _ingress(frame: Frame, asked: Ingress) -> Object:
    backend = {"service": {"name": frame.name, "port": {"name": "http"}}}
    paths = [{"path": asked.path, "pathType": "Prefix", "backend": backend}]
    spec: Object = {"rules": [{"host": asked.host, "http": {"paths": paths}}]}
    if asked.ingress_class_name is not None:
        spec["ingressClassName"] = asked.ingress_class_name
    if asked.tls_secret_name is not None:
        spec["tls"] = [{"hosts": [asked.host], "secretName": asked.tls_secret_name}]
    return frame.object(
        "networking.k8s.io/v1", "Ingress", frame.name, annotations=asked.annotations, spec=spec
    )


def _http_route(frame: Frame, asked: HttpRoute) -> Object:
    parents = []
    for parent in asked.parent_refs:
        found: dict[str, Any] = {
            "group": "gateway.networking.k8s.io",
            "kind": "Gateway",
            "name": parent.name,
        }
        if parent.namespace is not None:
            found["namespace"] = parent.namespace
        if parent.section_name is not None:
            found["sectionName"] = parent.section_name
        parents.append(found)
    backend = {
        "group": "",
        "kind": "Service",
        "name": frame.name,
        "port": labels.SERVICE_PORT,
        "weight": 1,
    }
    spec: Object = {
        "parentRefs": parents,
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": asked.path}}],
                "backendRefs": [backend],
            }
        ],
    }
    if asked.hostnames:
        spec["hostnames"] = list(asked.hostnames)
    return frame.object("gateway.networking.k8s.io/v1", "HTTPRoute", frame.name, spec=spec)


def _port(number: int) -> Object:
    return {"port": number, "protocol": "TCP"}
