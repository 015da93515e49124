"""Secrets stay where they are: in no manifest, output or log, and in no container without a use for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from berth.plans import Server
from tests.serving import fronts
from tests.serving.conftest import engine as engine
from tests.serving.conftest import model_file as model_file
from tests.serving.processes import free_port
from tests.serving.weights.conftest import COMMIT, content
from tests.serving.weights.conftest import hub as hub
from tests.serving.weights.conftest import start as start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.serving.conftest import Engine
    from tests.serving.weights.conftest import FakeHub

ROOT = Path(__file__).resolve().parents[2]
BERTH = Path(sys.executable).with_name("berth")
MARK = "s3cret-0123456789abcdef"
RENDERED = sorted(
    path
    for folder in ("manifests", "examples", "tests/golden")
    for path in (ROOT / folder).rglob("*.yaml")
    if "specs" not in path.parts
)


def rendered() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in RENDERED:
        for thing in yaml.safe_load_all(path.read_text()):
            if isinstance(thing, dict) and "kind" in thing:
                yield path, thing


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that we render: name and spec."""
    for path, thing in rendered():
        if thing["kind"] in ("Deployment", "StatefulSet"):
            yield f"{path.relative_to(ROOT)}", thing["spec"]["template"]["spec"]
        elif thing["kind"] == "LeaderWorkerSet":
            group = thing["spec"]["leaderWorkerTemplate"]
            for role in ("leaderTemplate", "workerTemplate"):
                yield f"{path.relative_to(ROOT)}: {role}", group[role]["spec"]


def test_there_are_pods_to_look_at() -> None:
    assert len(list(pods())) > 15


def test_no_secret_is_rendered() -> None:
    assert [str(path) for path, thing in rendered() if thing["kind"] == "Secret"] == []


def test_no_caller_s_secret_reaches_an_output(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text((ROOT / "examples/kaito/falcon-7b.yaml").read_text())
    names = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "KUBECONFIG_DATA", "API_KEY")
    everything = ""
    for command in (
        ["check", "w.yaml", "--format", "json"],
        ["plan", "w.yaml", "--explain"],
        ["render", "w.yaml", "--out", "out"],
        ["render", "w.yaml", "--out", "-"],
        ["install", "--out", "platform"],
        ["doctor", ".", "--no-cluster"],
        ["explain", "gemma-3-12b-it"],
    ):
        done = subprocess.run(
            [BERTH, *command],
            cwd=tmp_path,
            env={**os.environ, **dict.fromkeys(names, MARK)},
            capture_output=True,
            text=True,
            check=False,
        )
        everything += done.stdout + done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 30
    assert MARK not in everything
    assert [path for path in written if MARK in path.read_text()] == []


@pytest.mark.parametrize(("name", "spec"), list(pods()), ids=[name for name, _ in pods()])
def test_only_the_download_sees_a_token(name: str, spec: dict[str, Any]) -> None:
    for container in spec["containers"]:
        if container["name"] in ("server", "worker", "webhook", "watcher"):
            assert "envFrom" not in container
            assert [
                one for one in container.get("env", ()) if "secretKeyRef" in one.get("valueFrom", {})
            ] == []
    for container in spec.get("initContainers", ()):
        for variable in container.get("env", ()):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                assert (container["name"], variable["name"]) == ("weights", "HF_TOKEN"), name


def test_a_download_tells_its_token_to_nobody(
    hub: FakeHub, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    hub.files["m.gguf"] = content(4096)
    said = ""
    for token, gated in ((MARK, False), (MARK, True), (f"{MARK}-wrong", True)):
        hub.token, hub.gated = (MARK if gated else None), gated
        folder = tmp_path / f"models-{len(said)}"
        process = start(
            "fetch", "--repository", "org/models", "--revision", COMMIT, "--file", "m.gguf",
            "--size", 4096, "--to", folder, HF_ENDPOINT=hub.hub, HF_TOKEN=token,
        )  # fmt: skip
        out, err = process.communicate(timeout=60)
        said += out + err
    assert "m.gguf" in said
    assert "not accepted" in said
    assert MARK not in said
    assert "signature" not in said
    assert hub.leaked == []
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in kept if MARK.encode() in path.read_bytes()] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_at_the_loudest_neither_keys_nor_prompts_are_logged(
    engine: Engine, model_file: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "alice").write_text(MARK)
    server = Server(
        model="smol", alias="smol", quantization="Q4_1", context_size=512, parallel=1, gpu_layers=0, gpus=0,
        flash_attention=False, extra_args=("--verbose", "--log-verbosity", "9"),
    )  # fmt: skip
    command = server.argv(str(model_file))
    command[command.index("--port") + 1] = str(free_port())
    prompt = "xylophone-quartz-kettle"
    asked = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 4}
    with fronts.running(engine, model_file, tmp_path, "--api-keys", str(keys), "--", *command) as front:
        right = {"Authorization": f"Bearer {MARK}"}
        assert front.post("/v1/chat/completions", asked, **right)[0] == 200
        assert front.post("/chat", {"prompt": prompt, "max_length": 4}, **right)[0] == 200
        assert front.post("/v1/chat/completions", asked, Authorization=f"Bearer {MARK}-no")[0] == 401
        broken = {"messages": [{"role": prompt, "content": {"a": prompt}}], "grammar": f'root ::= "{prompt}'}
        assert front.post("/v1/chat/completions", broken, **right)[0] >= 400
        metrics = front.get("/metrics", front.metrics_port)[1]
        about = front.get("/")[1]
        front.terminate()
        front.process.wait(60)
        log = front.log
    assert len(log.splitlines()) > 10
    for text in (log, metrics, about):
        assert MARK not in text
        assert prompt not in text
    assert json.dumps(asked) not in log
