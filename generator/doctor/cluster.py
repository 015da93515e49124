"""The platform in a cluster: its version, the CRD, webhook and watcher, certificates, the fleet file."""

from __future__ import annotations

import base64
import binascii
import json
import re
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import yaml

from berth import fleet as fleets
from berth import labels
from generator import crd
from generator.doctor.findings import error, fine, unknown, warning
from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.fleet import Fleet
    from generator.doctor.facts import Facts
    from generator.doctor.findings import Finding

AREA = "cluster"
OLDEST = (1, 30)
"""Match conditions of webhooks, which keep deletions free of us, are stable since then."""
SOON = timedelta(days=14)
INSTALL = "run `berth install --out platform`, commit it, and let it be applied"
_PROGRAMS = {frame.WEBHOOK: "webhook", frame.WATCHER: "watcher"}
_CONFIGURATIONS = {"validating": "ValidatingWebhookConfiguration", "mutating": "MutatingWebhookConfiguration"}
_KAITO = "kaito.sh"


def judge(facts: Facts, fleet: Fleet, now: datetime) -> Iterator[Finding]:
    """Yield what there is to say about the platform."""
    yield _version(facts, fleet)
    yield _definition(facts)
    yield from _kaito(facts)
    for component in _PROGRAMS:
        yield _program(facts, component)
        yield from _lease(facts, component, now)
    yield from _configurations(facts, now)
    yield _admission(facts)
    yield from _metrics(facts, now)
    yield from _fleet(facts, fleet)
    yield from _operators(facts, fleet)


def _version(facts: Facts, fleet: Fleet) -> Finding:
    server = (facts.data("version") or {}).get("serverVersion") or {}
    text = str(server.get("gitVersion", "unknown"))
    found = re.match(r"v?(\d+)\.(\d+)", text)
    if found is None:
        return unknown(AREA, "Kubernetes", f"the version is {text}")
    version = (int(found[1]), int(found[2]))
    wanted = tuple(map(int, fleet.kubernetes_version.split(".")))
    if version < OLDEST:
        why = f"{text} is older than {_dotted(OLDEST)}, where webhooks have no match conditions"
        return error(AREA, "Kubernetes", why, f"upgrade to {_dotted(OLDEST)} or newer")
    if version < wanted:
        why = f"{text} is older than kubernetesVersion {fleet.kubernetes_version} of berth.yaml"
        fix = f'write kubernetesVersion: "{_dotted(version)}" and render again'
        return error(AREA, "Kubernetes", why, fix)
    return fine(AREA, "Kubernetes", text)


def _definition(facts: Facts) -> Finding:
    what, found = "Workspace CRD", facts.data("crd")
    if found is None:
        reason = facts.refusal("crd")
        return unknown(AREA, what, reason) if reason else error(AREA, what, "it is not there", INSTALL)
    if (found.get("metadata", {}).get("labels") or {}).get(labels.PART_OF) != "berth":
        why = "the one that is there is not berth's: it fills in defaults that hide what nobody wrote"
        return error(AREA, what, why, INSTALL)
    if not _condition(found, "Established"):
        return error(AREA, what, "it is not established", f"kubectl describe crd {crd.NAME}")
    served = {one["name"]: one.get("schema") for one in found["spec"]["versions"] if one.get("served")}
    made = json.loads(json.dumps(crd.definition()))
    ours = {one["name"]: one["schema"] for one in made["spec"]["versions"]}
    if set(served) != set(ours):
        return error(AREA, what, f"it serves {', '.join(sorted(served))}", INSTALL)
    if served != ours:
        return warning(AREA, what, "its schema is another version's", INSTALL)
    return fine(AREA, what, f"established, serves {' and '.join(sorted(served))}")


def _kaito(facts: Facts) -> Iterator[Finding]:
    """KAITO's own webhook would refuse what only berth understands."""
    for name, kind in _CONFIGURATIONS.items():
        for one in facts.items(name):
            title = one["metadata"]["name"]
            asked = [rule for hook in one.get("webhooks") or () for rule in hook.get("rules") or ()]
            if title != frame.WEBHOOK and any(_KAITO in (rule.get("apiGroups") or ()) for rule in asked):
                why = f"{kind} {title} judges Workspaces too, so two products run beside each other"
                fix = f"see docs/guides/from-kaito.md; kubectl delete {kind.lower()} {title}"
                yield error(AREA, "KAITO", why, fix)


def _program(facts: Facts, component: str) -> Finding:
    what = _PROGRAMS[component]
    found = _named(facts, "deployments", component)
    if found is None:
        reason = facts.refusal("deployments")
        return unknown(AREA, what, reason) if reason else error(AREA, what, "it is not installed", INSTALL)
    wanted = found["spec"].get("replicas", 1)
    ready = (found.get("status") or {}).get("readyReplicas", 0)
    image = found["spec"]["template"]["spec"]["containers"][0]["image"]
    look = f"kubectl --namespace {facts.namespace} describe pods --selector {labels.NAME}={component}"
    if ready == 0:
        return error(AREA, what, f"no replica of {wanted} is ready ({image})", look)
    if ready < wanted:
        return warning(AREA, what, f"{ready} of {wanted} replicas are ready ({image})", look)
    return fine(AREA, what, f"{ready} of {wanted} replicas are ready ({image})")


def _lease(facts: Facts, component: str, now: datetime) -> Iterator[Finding]:
    what = f"{_PROGRAMS[component]}'s leader"
    found = _named(facts, "leases", component)
    program = _named(facts, "deployments", component)
    if program is None or (component == frame.WEBHOOK and _by_cert_manager(facts)):
        return
    if found is None:
        reason = facts.refusal("leases")
        logs = f"kubectl --namespace {facts.namespace} logs deployment/{component}"
        yield unknown(AREA, what, reason) if reason else error(AREA, what, "nobody ever led", logs)
        return
    spec = found["spec"]
    holder, renewed = spec.get("holderIdentity"), _time(spec.get("renewTime"))
    age = (now - renewed).total_seconds() if renewed is not None else float("inf")
    seconds = int(spec.get("leaseDurationSeconds") or 15)
    if not holder or age > 2 * seconds:
        said = f"{holder} did not renew its lease for {age:.0f} s" if holder else "nobody holds the lease"
        logs = f"kubectl --namespace {facts.namespace} logs deployment/{component}; is this clock right?"
        yield error(AREA, what, said, logs)
    else:
        yield fine(AREA, what, f"{holder}, renewed {max(age, 0):.0f} s ago")


def _configurations(facts: Facts, now: datetime) -> Iterator[Finding]:
    for name, kind in _CONFIGURATIONS.items():
        what, found = kind, _named(facts, name, frame.WEBHOOK)
        if found is None:
            reason = facts.refusal(name)
            yield unknown(AREA, what, reason) if reason else error(AREA, what, "it is not there", INSTALL)
            continue
        bundles = {
            (hook.get("clientConfig") or {}).get("caBundle") or "" for hook in found.get("webhooks") or ()
        }
        yield _bundle(facts, what, bundles, now)


def _bundle(facts: Facts, what: str, bundles: set[str], now: datetime) -> Finding:
    logs = f"kubectl --namespace {facts.namespace} logs deployment/{frame.WEBHOOK}"
    if not all(bundles) or not bundles:
        why = "a webhook has no caBundle, so the API server trusts nobody who answers"
        return error(AREA, what, why, f"the leader writes it, or cert-manager: {logs}")
    ends = [end for bundle in bundles for end in _ends(bundle)]
    if not ends:
        return error(AREA, what, "its caBundle holds no authority that can be read", logs)
    last = max(ends)
    if last < now:
        return error(AREA, what, f"its authority ran out at {last:%Y-%m-%d %H:%M} UTC", logs)
    if last < now + SOON:
        return warning(AREA, what, f"its authority runs out at {last:%Y-%m-%d %H:%M} UTC", logs)
    return fine(AREA, what, f"its authority holds until {last:%Y-%m-%d}")


def _admission(facts: Facts) -> Finding:
    what = "admission"
    answer = facts.answers.get("admission")
    nowhere = not any(facts.refusal(kind) or _named(facts, kind, frame.WEBHOOK) for kind in _CONFIGURATIONS)
    if isinstance(answer, str) and nowhere:
        return unknown(
            AREA, what, "a Workspace is taken unseen, since no configuration sends it to the webhook"
        )
    if isinstance(answer, str):
        return fine(AREA, what, "the API server asked the webhook about a Workspace, and it answered")
    reason = getattr(answer, "reason", "it was not asked")
    if "failed calling webhook" in reason:
        at = reason.index("failed calling webhook")
        look = f"kubectl --namespace {facts.namespace} get pods,endpointslices,networkpolicies"
        return error(AREA, what, f"the API server can't reach the webhook: {reason[at:]}", look)
    if "AlreadyExists" in reason or "already exists" in reason:
        return fine(AREA, what, "the API server asked the webhook about a Workspace, and it answered")
    return unknown(AREA, what, reason)


def _metrics(facts: Facts, now: datetime) -> Iterator[Finding]:
    text = facts.data("webhook metrics")
    if isinstance(text, str):
        end = _sample(text, "berth_webhook_certificate_not_after_seconds")
        if end:
            yield _certificate(facts, datetime.fromtimestamp(end, UTC), now)
    for component, what in _PROGRAMS.items():
        text = facts.data(f"{what} metrics")
        good = (
            _sample(text, f"{component.replace('-', '_')}_config_reload_successful")
            if isinstance(text, str)
            else None
        )
        if good == 0:
            logs = f"kubectl --namespace {facts.namespace} logs deployment/{component}"
            yield error(AREA, f"{what}'s fleet file", "it can't be used; the last good one is in use", logs)


def _certificate(facts: Facts, end: datetime, now: datetime) -> Finding:
    what = "webhook's certificate"
    logs = f"kubectl --namespace {facts.namespace} logs deployment/{frame.WEBHOOK}"
    if end < now + timedelta(days=2):
        return error(AREA, what, f"it runs out at {end:%Y-%m-%d %H:%M} UTC and was not renewed", logs)
    return fine(AREA, what, f"it holds until {end:%Y-%m-%d}")


def _fleet(facts: Facts, fleet: Fleet) -> Iterator[Finding]:
    what, found = "fleet file", facts.data("fleet")
    if found is None:
        reason = facts.refusal("fleet")
        yield (
            unknown(AREA, what, reason)
            if reason
            else error(AREA, what, "its ConfigMap is not there", INSTALL)
        )
        return
    text = (found.get("data") or {}).get(frame.FLEET_KEY)
    try:
        there = fleets.read(yaml.safe_load(text or ""))[0]
    except yaml.YAMLError:
        there = None
    again = f"{INSTALL}, with `--fleet berth.yaml`"
    if there is None:
        yield error(AREA, what, f"ConfigMap {frame.FLEET} holds none that can be used", again)
    elif there.digest != fleet.digest:
        yield error(AREA, what, f"ConfigMap {frame.FLEET} says something else than berth.yaml", again)
    else:
        yield fine(AREA, what, "the cluster has the same as the repository")


def _operators(facts: Facts, fleet: Fleet) -> Iterator[Finding]:
    if fleet.monitoring.pod_monitor and facts.missing("prometheus operator"):
        fix = "install it, or write monitoring.podMonitor: false"
        yield error(
            AREA, "Prometheus operator", "berth.yaml wants PodMonitors, and the cluster serves none", fix
        )
    if fleet.several_nodes == "leaderworkerset" and facts.missing("leader-worker sets"):
        fix = "install the LeaderWorkerSet controller, or write severalNodes: statefulset"
        yield error(AREA, "LeaderWorkerSet", "berth.yaml wants it, and the cluster does not serve it", fix)
    if _by_cert_manager(facts) and facts.missing("cert-manager"):
        fix = "install cert-manager, or render with `--certificates own`"
        yield error(
            AREA, "cert-manager", "the webhook's certificates are to come from it, and it is not there", fix
        )


def _by_cert_manager(facts: Facts) -> bool:
    found = _named(facts, "validating", frame.WEBHOOK)
    return found is not None and "cert-manager.io/inject-ca-from" in (
        found["metadata"].get("annotations") or {}
    )


def _named(facts: Facts, question: str, name: str) -> Any:
    return next((one for one in facts.items(question) if one["metadata"]["name"] == name), None)


def _condition(thing: Any, kind: str) -> bool:
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return any((one.get("type"), one.get("status")) == (kind, "True") for one in conditions)


def _ends(bundle: str) -> Iterator[datetime]:
    """When each authority of a bundle runs out."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=base64.b64decode(bundle, validate=True).decode("ascii"))
    except (ssl.SSLError, binascii.Error, UnicodeDecodeError):
        return
    for one in context.get_ca_certs():
        yield datetime.fromtimestamp(ssl.cert_time_to_seconds(str(one["notAfter"])), UTC)


def _sample(text: str, name: str) -> float | None:
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
