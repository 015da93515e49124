"""The command lines of `berth.argv` and the flags of `berth.flags`, against what the pinned engine says."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import pytest

from berth import argv, flags, plans
from berth.engine.settings import CACHE_TYPES
from tests.serving.processes import end, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.conftest import Engine

pytestmark = pytest.mark.slow
_SPELLING = r"--?[A-Za-z][\w.\-]*"
_ENTRY = re.compile(rf"^({_SPELLING}(?:,\s+{_SPELLING})*)( \S.*?)?(?:\s{{2,}}(.*))?$")

MEANINGS = {
    "--model": "model path to load",
    "--alias": "set model name aliases",
    "--host": "IP addresses to listen on",
    "--port": "port to listen",
    "--ctx-size": "size of the prompt context",
    "--parallel": "number of server slots",
    "--kv-unified": "use single unified KV buffer shared across all sequences",
    "--no-kv-unified": "use single unified KV buffer shared across all sequences",
    "--batch-size": "logical maximum batch size",
    "--ubatch-size": "physical maximum batch size",
    "--cache-type-k": "KV cache data type for K",
    "--cache-type-v": "KV cache data type for V",
    "--flash-attn": "set Flash Attention use",
    "--n-gpu-layers": "max. number of layers to store in VRAM",
    "--split-mode": "how to split the model across multiple GPUs",
    "--tensor-split": "fraction of the model to offload to each GPU",
    "--lora-scaled": r"path to LoRA adapter with user defined scaling \(format: FNAME:SCALE",
    "--rpc": r"comma-separated list of RPC servers \(host:port\)",
    "--fit": "whether to adjust unset arguments to fit in device memory",
    "--cont-batching": "whether to enable continuous batching",
    "--cache-ram": "set the maximum cache size in MiB",
    "--ctx-checkpoints": "max number of context checkpoints to create per slot",
    "--offline": "prevents network access",
    "--no-ui": "whether to enable the Web UI",
    "--metrics": "enable prometheus compatible metrics endpoint",
    "--jinja": "whether to use jinja template engine for chat",
    "--no-jinja": "whether to use jinja template engine for chat",
    "--embeddings": "restrict to only support embedding use case",
    "--reranking": "enable reranking endpoint on server",
}
"""What each flag of the plan is for, in the engine's own words; a changed meaning fails here."""


@dataclass(frozen=True)
class Flag:
    """One spelling of a flag as `--help` tells it."""

    values: str
    """What is said of its value; empty where it takes none."""
    text: str


@pytest.fixture(scope="module")
def known(engine: Engine) -> dict[str, Flag]:
    """Every spelling that the engine's `--help` lists."""
    return read_help(ask(engine, "llama-server"))


def ask(engine: Engine, program: str) -> str:
    done = subprocess.run(
        [engine.program(program), "--help"],
        env=engine.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def read_help(text: str) -> dict[str, Flag]:
    found: dict[str, Flag] = {}
    entry: tuple[str, str, list[str]] | None = None
    for line in [*text.splitlines(), "----"]:
        header = _ENTRY.match(line)
        if entry and (header or not line.startswith(" ")):
            told = re.sub(r"\s+", " ", " ".join(entry[2])).strip()
            found |= {spelling: Flag(entry[1], told) for spelling in re.findall(_SPELLING, entry[0])}
            entry = None
        if header:
            entry = (header[1], (header[2] or "").strip(), [header[3] or ""])
        elif entry:
            entry[2].append(line)
    return found


def server(**changes: Any) -> plans.Server:
    usual: dict[str, Any] = {
        "model": "smollm2", "alias": "smollm2", "quantization": "Q4_1", "context_size": 1024, "parallel": 2,
        "gpus": 0, "gpu_layers": 0,
    }  # fmt: skip
    return plans.Server(**(usual | changes))


EVERY_COMMAND_LINE = [
    argv.llama_server(server(task=task, kv_unified=unified, gpus=gpus, tensor_split=(1,) * gpus), "m", rpc)
    for task in get_args(plans.Task)
    for unified in (False, True)
    for gpus, rpc in ((1, ()), (2, ("a:1",)))
] + [argv.llama_server(server(adapters=(plans.Adapter(name="a", image="i", file="a.gguf", size=1),)), "m")]


def test_the_help_text_is_read_whole(known: dict[str, Flag]) -> None:
    assert len(known) > 300
    assert known["-c"] == known["--ctx-size"]
    assert known["-c"].values == "N"
    assert known["--metrics"].values == ""


def test_every_flag_of_the_engine_is_either_the_plans_or_free(known: dict[str, Flag]) -> None:
    ours = {*flags.OWNED_FLAGS, *flags.FREE_FLAGS}
    assert sorted(set(known) - ours) == [], "berth does not know these"
    assert sorted(ours - set(known)) == [], "the engine does not know these"


def test_free_flags_take_as_many_values_as_the_engine_wants(known: dict[str, Flag]) -> None:
    wrong = {
        flag: known[flag].values
        for flag, count in flags.FREE_FLAGS.items()
        if bool(known[flag].values) != bool(count)
    }
    assert wrong == {}


def test_every_flag_of_the_plan_exists_and_means_that(known: dict[str, Flag]) -> None:
    used: set[str] = set()
    for command in EVERY_COMMAND_LINE:
        rest = command[1:]
        while rest:
            flag = rest.pop(0)
            assert flag in known, f"the engine has no {flag}"
            assert flag in flags.OWNED_FLAGS, f"{flag} is the plan's, so extraArgs must not hold it"
            used.add(flag)
            if known[flag].values:
                value = rest.pop(0)
                choices = (
                    re.findall(r"[\w]+", known[flag].values) if known[flag].values[0] in "[{" else [value]
                )
                assert value in choices, f"{flag} takes {known[flag].values}"
    assert used == set(MEANINGS)
    wrong = {flag: known[flag].text for flag in used if not re.search(MEANINGS[flag], known[flag].text)}
    assert wrong == {}


def test_the_cache_types_are_the_engines(known: dict[str, Flag]) -> None:
    for flag in ("--cache-type-k", "--cache-type-v"):
        allowed = re.search(r"allowed values: ([\w, ]+?) \(default", known[flag].text)
        assert allowed is not None
        assert set(allowed[1].split(", ")) == set(CACHE_TYPES)


def test_the_workers_command_line_exists(engine: Engine) -> None:
    told = ask(engine, "ggml-rpc-server")
    command = argv.rpc_server()
    assert command[0] == "ggml-rpc-server"
    for flag in (argument for argument in command[1:] if argument.startswith("-")):
        assert re.search(rf"{flag}\b", told), f"the RPC server has no {flag}"


@pytest.fixture(scope="module")
def running(
    engine: Engine, model_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """The real engine with a plan's command line and its log."""
    log = tmp_path_factory.mktemp("engine") / "log"
    command = argv.llama_server(server(extra_args=("-lv", "4")), str(model_file))
    port = free_port()
    command[command.index("--port") + 1] = str(port)
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=engine.environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until(lambda: get(f"{url}/health")[0] == 200, "the model is loaded")
        yield url, log
    finally:
        end(process)


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


def test_the_engine_runs_what_the_plan_says(running: tuple[str, Path]) -> None:
    url, log = running
    told = json.loads(get(f"{url}/props")[1])
    assert told["total_slots"] == 2
    assert told["default_generation_settings"]["n_ctx"] == 1024
    assert [model["id"] for model in json.loads(get(f"{url}/v1/models")[1])["data"]] == ["smollm2"]
    assert get(f"{url}/metrics")[0] == 200
    assert get(f"{url}/")[0] == 404
    text = log.read_text(errors="replace")
    assert re.search(r"n_ctx\s+= 2048\b", text)
    assert re.search(r"n_batch\s+= 2048\b", text)
    assert re.search(r"n_ubatch\s+= 512\b", text)
    assert re.search(r"flash_attn\s+= enabled", text)
    assert re.search(r"kv_unified\s+= false", text)
    assert "prompt cache is enabled, size limit: 1024 MiB" in text


def test_the_plans_bytes_are_in_the_engines_log(running: tuple[str, Path], model_file: Path) -> None:
    from berth.engine import gguf, layouts
    from berth.engine.memory import Settings, footprint

    text = running[1].read_text(errors="replace")
    with model_file.open("rb") as stream:
        layout = layouts.from_header(gguf.read_header(stream, model_file.stat().st_size))
    host = footprint(layout, Settings(2048, parallel=2, gpus=0)).host
    told = {
        "weights": sizes(text, r"model buffer size"),
        "cache": sizes(text, r"KV buffer size"),
        # beside it lies a buffer of 4 bytes a slot and token of the vocabulary, which its account leaves out
        "compute": sizes(text, r"compute buffer size"),
    }
    assert told == {
        "weights": pytest.approx(host.weights / 2**20, abs=0.006),
        "cache": pytest.approx(host.kv_cache / 2**20, abs=0.006),
        "compute": pytest.approx(host.compute / 2**20, abs=0.006),
    }


def sizes(log: str, what: str) -> float:
    """The MiB of a kind of buffer, summed."""
    return sum(float(one) for one in re.findall(rf"{what} =\s+([\d.]+) MiB", log))


def test_a_flag_the_engine_lacks_ends_it(engine: Engine) -> None:
    time_limit = time.monotonic() + 30
    done = subprocess.run(
        [engine.program("llama-server"), "--no-such-flag"],
        env=engine.environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "--no-such-flag" in done.stdout + done.stderr
    assert time.monotonic() < time_limit
