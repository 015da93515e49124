"""No text of a spec leaves its place: not as YAML, not as an argument, not as another object."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from berth import argv, workspaces
from berth.errors import BerthError
from berth.plans import Server
from tests.security import kubelet

BERTH = Path(sys.executable).with_name("berth")
HOSTILE = [
    "a\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: stolen}",
    "x: y\n      hostNetwork: true",
    '"}, {"kind": "ClusterRoleBinding"',
    "'; rm -rf / #",
    "$(HF_TOKEN) $$(HOME) $${a} $$",
    "`id` && curl http://169.254.169.254/",
    "{{ .Values.secret }} {%raw%} ${BRANCH}",
    "<<: *anchor &anchor !!python/object/apply:os.system [id]",
    "- --api-key=x\n- --host=0.0.0.0",
    "!yaml | > \\ \t \x85 \u2028 \u2029 \ufeff é 🚢",
    "--model /etc/passwd",
]
"""What would do harm if it were read by the wrong reader."""


def document(text: str, place: int) -> dict[str, Any]:
    """A Workspace that holds a text wherever any text is allowed."""
    free = {"example.com/note": text}
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": f"w{place}", "namespace": "models", "annotations": free},
        "resource": {"instanceType": "Standard_NC4as_T4_v3", "labelSelector": {"matchLabels": {"a": "b"}}},
        "inference": {
            "preset": {"name": "smollm2-135m-instruct"},
            "llamacpp": {
                "extraArgs": ["--chat-template", text, "--reverse-prompt", text],
                "pod": {"annotations": free},
                "expose": {"ingress": {"host": "m.example.com", "annotations": free}},
            },
        },
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every hostile text as a Workspace of its own, through the real command line and back."""
    folder = tmp_path_factory.mktemp("hostile")
    for place, text in enumerate(["harmless", *HOSTILE]):
        (folder / f"w{place}.yaml").write_text(yaml.safe_dump(document(text, place), allow_unicode=True))
    done = subprocess.run(
        [BERTH, "render", str(folder), "--out", str(folder / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "out"


def objects(rendered: Path, place: int) -> dict[str, dict[str, Any]]:
    found = {}
    for file in sorted((rendered / f"models_w{place}").glob("*.yaml")):
        (thing,) = yaml.safe_load_all(file.read_text())
        found[file.name.replace(f"w{place}", "w")] = thing
    return found


def shape(thing: Any, place: int, text: str) -> Any:
    """A document with everything of the text and of the place taken out."""
    if isinstance(thing, dict):
        return {key: shape(value, place, text) for key, value in thing.items() if "digest" not in key}
    if isinstance(thing, list):
        return [shape(value, place, text) for value in thing]
    if isinstance(thing, str):
        if thing.startswith("{") or text.replace("$", "$$") in thing or text in thing:
            return "text"
        return thing.replace(f"w{place}", "w")
    return thing


@pytest.mark.slow
@pytest.mark.parametrize("place", range(1, len(HOSTILE) + 1), ids=lambda place: HOSTILE[place - 1][:20])
def test_a_hostile_text_makes_the_objects_of_a_harmless_one(rendered: Path, place: int) -> None:
    harmless = {name: shape(thing, 0, "harmless") for name, thing in objects(rendered, 0).items()}
    hostile = {
        name: shape(thing, place, HOSTILE[place - 1]) for name, thing in objects(rendered, place).items()
    }
    assert hostile == harmless


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(HOSTILE) + 1))
def test_every_text_comes_back_as_it_was(rendered: Path, place: int) -> None:
    text = ["harmless", *HOSTILE][place]
    found = objects(rendered, place)
    pod = found["deployment-w.yaml"]["spec"]["template"]
    assert found["workspace-w.yaml"]["metadata"]["annotations"]["example.com/note"] == text
    assert found["ingress-w.yaml"]["metadata"]["annotations"]["example.com/note"] == text
    assert pod["metadata"]["annotations"]["example.com/note"] == text
    (container,) = pod["spec"]["containers"]
    secrets = dict.fromkeys(("HF_TOKEN", "HOME", "BRANCH"), "a secret")
    given = kubelet.arguments([*container["command"], *container["args"]], secrets)
    assert given[-4:] == ["--chat-template", text, "--reverse-prompt", text]
    assert given[0] == "python"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_the_engine_gets_every_argument_as_the_spec_has_it(words: list[str]) -> None:
    server = Server(
        model="m", alias="m", quantization="Q8_0", context_size=512, parallel=1, gpu_layers=1, gpus=1,
        extra_args=tuple(words),
    )  # fmt: skip
    given_words = kubelet.arguments(argv.as_written(server).argv("/m.gguf"), {"HOME": "/root", "": "x"})
    assert given_words == server.argv("/m.gguf")


RESTRICTED = [
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "labels", "team"),
    ("resource", "instanceType"),
    ("resource", "labelSelector", "matchLabels", "apps"),
    ("inference", "preset", "name"),
    ("inference", "preset", "presetOptions", "modelAccessSecret"),
    ("inference", "llamacpp", "quantization"),
    ("inference", "llamacpp", "weights", "hf"),
    ("inference", "llamacpp", "weights", "revision"),
    ("inference", "llamacpp", "weights", "file"),
    ("inference", "llamacpp", "weights", "image"),
    ("inference", "llamacpp", "weights", "pvc"),
    ("inference", "llamacpp", "weights", "sha256"),
    ("inference", "llamacpp", "pod", "serviceAccountName"),
    ("inference", "llamacpp", "pod", "runtimeClassName"),
    ("inference", "llamacpp", "pod", "queue"),
    ("inference", "llamacpp", "pod", "labels", "team"),
    ("inference", "llamacpp", "expose", "ingress", "host"),
    ("inference", "llamacpp", "expose", "ingress", "tlsSecretName"),
]
"""Fields whose texts become names, paths, images and addresses."""


@pytest.mark.parametrize("path", RESTRICTED, ids=".".join)
@given(
    text=st.sampled_from([*HOSTILE, "../../etc/passwd", "/etc/passwd", "a/../b.gguf", "a\0b", "a\n", " a"])
)
def test_names_and_addresses_take_no_other_character(path: tuple[str, ...], text: str) -> None:
    thing = document("harmless", 0)
    if path[:3] == ("inference", "llamacpp", "weights"):
        thing["inference"]["llamacpp"]["weights"] = {}
    inner = thing
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
    inner[path[-1]] = text
    try:
        workspace = workspaces.parse(thing)
    except BerthError:
        return
    # A preset's name and a quantization are looked up in the catalogue, where no such entry can stand.
    assert path[-1] in ("name", "quantization")
    assert path[0] == "inference", workspace


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--host", "0.0.0.0"], id="listen to everybody"),
        pytest.param(["--model=/etc/passwd"], id="another file"),
        pytest.param(["--model-url", "http://169.254.169.254/"], id="fetch an address"),
        pytest.param(["--api-key-file", "/proc/self/environ"], id="read a file"),
        pytest.param(["--log-file", "/models/x"], id="write a file"),
        pytest.param(["--chat-template-file", "/etc/berth/api-keys/a"], id="read a key"),
        pytest.param(["--path", "/"], id="serve the file system"),
        pytest.param(["--tools", "all"], id="run programs"),
        pytest.param(["--temp", "1", "--rpc", "10.0.0.1:1"], id="after a harmless one"),
        pytest.param(["--rpc=10.0.0.1:1"], id="with an equals sign"),
        pytest.param(["--"], id="the end of flags"),
        pytest.param(["/etc/passwd"], id="no flag at all"),
    ],
)
def test_flags_that_reach_files_addresses_or_programs_are_refused(arguments: list[str]) -> None:
    thing = document("harmless", 0)
    thing["inference"]["llamacpp"]["extraArgs"] = arguments
    with pytest.raises(BerthError):
        workspaces.parse(thing)
