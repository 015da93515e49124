"""What `berth install` makes: valid, restricted, with nothing in it that another hand has to write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from berth.fleet import Fleet, Monitoring
from generator import platform
from generator.platform import frame, output

if TYPE_CHECKING:
    from pathlib import Path

FLEETS = {
    "defaults": frame.Settings(),
    "Argo CD": frame.Settings(Fleet(gitops="argocd")),
    "Flux": frame.Settings(Fleet(gitops="flux")),
    "Prometheus": frame.Settings(Fleet(monitoring=Monitoring(pod_monitor=True))),
    "cert-manager": frame.Settings(certificates="cert-manager"),
    "Machines": frame.Settings(Fleet(provisioning="machine")),
    "NodePools": frame.Settings(Fleet(provisioning="nodepool")),
    "existing nodes": frame.Settings(Fleet(provisioning="none")),
    "no watcher": frame.Settings(watcher=False),
}
OTHERS = ("cert-manager.io/", "monitoring.coreos.com/")


def things(case: str) -> list[dict[str, Any]]:
    return platform.objects(FLEETS[case])


def one(kind: str, case: str = "defaults", name: str = frame.WEBHOOK) -> dict[str, Any]:
    found = [thing for thing in things(case) if (thing["kind"], thing["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("case", FLEETS)
def test_every_object_is_one_that_kubernetes_knows(case: str) -> None:
    for thing in things(case):
        if not thing["apiVersion"].startswith(OTHERS):
            kubernetes_validate.validate(thing, "1.36", strict=True)


@pytest.mark.parametrize("case", FLEETS)
def test_files_stream_and_objects_are_the_same(case: str) -> None:
    settings = FLEETS[case]
    wanted = json.loads(json.dumps(things(case)))
    assert list(yaml.safe_load_all(platform.stream(settings))) == wanted
    files = platform.files(settings)
    listed = yaml.safe_load(files["kustomization.yaml"])["resources"]
    assert [yaml.safe_load(files[name]) for name in listed] == wanted
    assert set(files) == {*listed, "kustomization.yaml"}


@pytest.mark.parametrize("case", FLEETS)
def test_no_certificate_and_no_secret_is_in_git(case: str) -> None:
    text = platform.stream(FLEETS[case])
    assert "caBundle" not in text
    assert "PRIVATE KEY" not in text
    assert "\nkind: Secret\n" not in text


@pytest.mark.parametrize("kind", ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"])
def test_no_webhook_watches_what_it_needs_itself(kind: str) -> None:
    for entry in one(kind)["webhooks"]:
        (requirement,) = entry["namespaceSelector"]["matchExpressions"]
        assert requirement["operator"] == "NotIn"
        assert set(requirement["values"]) == {"kube-system", "berth-system"}
        assert entry["sideEffects"] == "None"
        assert entry["matchPolicy"] == "Equivalent"
        assert entry["timeoutSeconds"] <= 5
        assert (
            entry["clientConfig"]["service"]["path"] == f"/{'mutate' if kind.startswith('M') else 'validate'}"
        )


def test_only_workspaces_and_workloads_wait_for_the_webhook() -> None:
    failing = {
        (kind, entry["name"])
        for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
        for entry in one(kind)["webhooks"]
        if entry["failurePolicy"] == "Fail"
    }
    assert failing == {
        ("ValidatingWebhookConfiguration", "workspaces.berth.dev"),
        ("ValidatingWebhookConfiguration", "workloads.berth.dev"),
    }


@pytest.mark.parametrize("name", [frame.WEBHOOK, frame.WATCHER])
def test_the_pods_are_restricted(name: str) -> None:
    pod = one("Deployment", name=name)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_pods_arguments_are_the_webhooks_own() -> None:
    from webhook import settings

    for case in ("defaults", "cert-manager"):
        (container,) = one("Deployment", case)["spec"]["template"]["spec"]["containers"]
        environment = {entry["name"]: "berth-system" for entry in container["env"]}
        given = settings.read(container["args"], environment)
        ports = {entry["name"]: entry["containerPort"] for entry in container["ports"]}
        assert (given.port, given.plain_port) == (ports["https"], ports["http"])
        assert (given.namespace, given.name) == (frame.NAMESPACE, frame.WEBHOOK)
        assert given.secret == frame.CERTIFICATES
        assert given.drain_s < one("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        service = next(thing for thing in things(case) if thing["kind"] == "Service")
        assert f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc" in given.names


def test_the_watchers_arguments_are_its_own() -> None:
    from watcher import settings

    made = platform.objects(frame.Settings(dry_run=True))
    (pod,) = (
        thing["spec"]["template"]["spec"]
        for thing in made
        if (thing["kind"], thing["metadata"]["name"]) == ("Deployment", frame.WATCHER)
    )
    (container,) = pod["containers"]
    environment = {entry["name"]: "berth-system" for entry in container["env"]}
    given = settings.read(container["args"], environment)
    assert (given.namespace, given.name, given.identity) == (frame.NAMESPACE, frame.WATCHER, "berth-system")
    assert given.port == container["ports"][0]["containerPort"]
    assert str(given.fleet) == f"{frame.FLEET_FOLDER}/{frame.FLEET_KEY}"
    assert given.dry_run


@pytest.mark.parametrize(
    ("case", "made"),
    [("defaults", ["nodeclaims"]), ("Machines", ["machines"]), ("NodePools", []), ("existing nodes", [])],
)
def test_the_watcher_may_make_only_what_the_fleet_file_names(case: str, made: list[str]) -> None:
    rules = one("ClusterRole", case, frame.WATCHER)["rules"]
    writing = [
        (rule["apiGroups"], rule["resources"], rule["verbs"])
        for rule in rules
        if set(rule["verbs"]) - {"get", "list", "watch"}
    ]
    expected = [
        (["kaito.sh"], ["workspaces"], ["get", "list", "watch", "patch"]),
        (["kaito.sh"], ["workspaces/status"], ["patch"]),
        (["events.k8s.io"], ["events"], ["create", "patch"]),
    ]
    assert writing == [*expected, *([(["karpenter.sh"], made, ["get", "create", "delete"])] if made else [])]
    assert all("*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]] for rule in rules)
    assert not any({"secrets", "configmaps"} & set(rule["resources"]) for rule in rules)


def test_without_the_watcher_nothing_of_it_is_rendered() -> None:
    assert "berth-watcher" not in platform.stream(FLEETS["no watcher"])


def test_somebody_elses_certificates_need_no_rights_to_write() -> None:
    verbs = {
        verb
        for thing in things("cert-manager")
        if thing["kind"] in ("Role", "ClusterRole") and thing["metadata"]["name"] == frame.WEBHOOK
        for rule in thing["rules"]
        for verb in rule["verbs"]
    }
    assert verbs == {"list", "watch"}


def test_secrets_are_read_by_name_only() -> None:
    for thing in things("defaults"):
        for rule in thing.get("rules", []) if thing["kind"] in ("Role", "ClusterRole") else []:
            if "secrets" in rule["resources"]:
                assert thing["kind"] == "Role"
                assert rule["verbs"] == ["create"] or rule["resourceNames"] == [frame.CERTIFICATES]


def test_the_fleet_file_travels_as_it_stands_in_git(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = tmp_path / "berth.yaml"
    fleet.write_text("# ours\ncloud: aws\n")
    assert output.command_line("-", check=False, fleet=fleet, certificates="own") == 0
    made = yaml.safe_load_all(capsys.readouterr().out)
    (found,) = (thing for thing in made if thing["kind"] == "ConfigMap")
    assert found["data"] == {"berth.yaml": "# ours\ncloud: aws\n"}


def test_a_wrong_fleet_file_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet = tmp_path / "berth.yaml"
    fleet.write_text("cloud: aws\nprovisionin: none\n")
    assert output.command_line(str(tmp_path / "out"), check=False, fleet=fleet, certificates="own") == 2
    assert f"{fleet}:2:1: provisionin" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text", ["fallbackInstanceTypes: [Standard_Nothing]\n", "models: [{name: x}]\n", "a: b: c\n", "[1]\n"]
)
def test_what_the_webhook_could_not_use_is_not_rendered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    fleet = tmp_path / "berth.yaml"
    fleet.write_text(text)
    assert output.command_line(str(tmp_path / "out"), check=False, fleet=fleet, certificates="own") == 2
    assert f"{fleet}:1:" in capsys.readouterr().err


def test_what_is_no_longer_wanted_goes_and_files_of_others_stay(tmp_path: Path) -> None:
    def install(certificates: Any) -> int:
        return output.command_line(str(tmp_path), check=False, fleet=None, certificates=certificates)

    assert install("cert-manager") == 0
    (tmp_path / "webhook" / "mine.yaml").write_text("a: b\n")
    assert install("own") == 0
    assert not list(tmp_path.rglob("issuer-*.yaml"))
    assert (tmp_path / "webhook" / "mine.yaml").exists()
    assert output.command_line(str(tmp_path), check=True, fleet=None, certificates="own") == 0


def test_the_command_may_leave_the_watcher_out_or_let_it_only_talk(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from generator import cli

    assert cli.run(["install", "--out", "-", "--watcher-dry-run"]) == 0
    (container,) = next(
        thing["spec"]["template"]["spec"]["containers"]
        for thing in yaml.safe_load_all(capsys.readouterr().out)
        if (thing["kind"], thing["metadata"]["name"]) == ("Deployment", frame.WATCHER)
    )
    assert container["args"] == ["--fleet=/etc/berth/berth.yaml", "--dry-run"]
    assert cli.run(["install", "--out", "-", "--no-watcher"]) == 0
    assert "berth-watcher" not in capsys.readouterr().out


def test_a_render_needs_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    from generator import cli

    assert cli.run(["install"]) == 2
    assert "--out" in capsys.readouterr().err
