"""Every pod that berth renders keeps Kubernetes' `restricted` Pod Security profile, and more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.security.test_secrets import pods

ALLOWED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected",
    "secret",
}  # fmt: skip
OURS = [
    pytest.param(spec, id=name)
    for name, spec in pods()
    if not name.startswith(
        "tests/golden/template-for-flux"
    )  # a pod of its author's own runs as it is written
]


@pytest.mark.parametrize("spec", OURS)
def test_the_restricted_profile_holds(spec: dict[str, Any]) -> None:
    """The controls of the Pod Security Standards' restricted profile, one by one."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        assert not spec.get(key)
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] >= 10_000
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "sysctls" not in pod
    for volume in spec["volumes"]:
        assert set(volume) - {"name"} <= ALLOWED_VOLUMES
    for container in [*spec["containers"], *spec.get("initContainers", ())]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not own.get("privileged")
        assert own["runAsNonRoot"] is True
        assert not {"procMount", "seLinuxOptions", "windowsOptions"} & set(own)
        assert not [port for port in container.get("ports", ()) if "hostPort" in port]


@pytest.mark.parametrize("spec", OURS)
def test_a_broken_program_finds_little(spec: dict[str, Any]) -> None:
    """Beyond the profile: nothing to write to, no token of the cluster, bounds on everything."""
    names = {container["name"] for container in spec["containers"]}
    if not names & {"webhook", "watcher"}:
        assert spec["automountServiceAccountToken"] is False
    for container in [*spec["containers"], *spec.get("initContainers", ())]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"]["limits"]["memory"]
        assert ":latest" not in container["image"]
        assert "@" in container["image"] or ":" in container["image"].rpartition("/")[2]
    for volume in spec["volumes"]:
        if "emptyDir" in volume:
            assert "sizeLimit" in volume["emptyDir"], volume
