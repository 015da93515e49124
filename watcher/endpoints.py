"""Where the model answers: the URL that people copy out of `kubectl get workspace -o wide`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kube.objects import items, mapping, metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.scene import Scene
    from watcher.world import Object


def url(scene: Scene) -> str:
    """Return the URL: from outside by Ingress or HTTPRoute, else by load balancer, else in the cluster."""
    for route in sorted(scene.snapshot.ingresses, key=_name):
        found = _of_http_route(route) if route.get("kind") == "HTTPRoute" else _of_ingress(route)
        if found:
            return found
    for service in scene.snapshot.services:
        if _name(service) == scene.object_name:
            return _of_service(service, scene.namespace)
    return ""


def _of_ingress(ingress: Object) -> str:
    spec = mapping(ingress.get("spec"))
    secure = {str(host) for tls in items(spec.get("tls")) for host in items(mapping(tls).get("hosts"))}
    for rule in items(spec.get("rules")):
        host = str(mapping(rule).get("host") or "")
        paths = items(mapping(mapping(rule).get("http")).get("paths"))
        path = str(mapping(paths[0]).get("path", "")) if paths else ""
        if host:
            return f"{'https' if host in secure else 'http'}://{host}{path.rstrip('/')}"
    return ""


def _of_http_route(route: Object) -> str:
    """The route does not say whether its listener speaks TLS, but people name such a listener so."""
    spec = mapping(route.get("spec"))
    hosts = items(spec.get("hostnames"))
    secure = any("https" in str(mapping(one).get("sectionName")) for one in items(spec.get("parentRefs")))
    return f"{'https' if secure else 'http'}://{hosts[0]}" if hosts else ""


def _of_service(service: Object, namespace: str) -> str:
    spec = mapping(service.get("spec"))
    ports = items(spec.get("ports"))
    port = mapping(ports[0]).get("port", 80) if ports else 80
    suffix = "" if port == 80 else f":{port}"
    balancer = items(mapping(mapping(service.get("status")).get("loadBalancer")).get("ingress"))
    if balancer:
        at = _address(mapping(balancer[0]))
        if at:
            return f"http://{at}{suffix}"
    return f"http://{_name(service)}.{namespace}.svc{suffix}"


def _address(point: Mapping[str, Any]) -> str:
    ip = str(point.get("ip") or "")
    return str(point.get("hostname") or (f"[{ip}]" if ":" in ip else ip))


def _name(thing: Object) -> str:
    return str(metadata(thing).get("name", ""))
