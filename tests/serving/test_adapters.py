"""LoRA adapters in the real engine: the bytes that the plan counted, and answers that they change."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from berth import argv, plans
from berth.engine import layouts
from berth.engine.memory import Settings, footprint
from serving import standalone
from tests.serving import fronts, lora, tiny_projectors
from tests.serving.processes import end, free_port, wait_until
from tests.serving.test_engine_flags import get, sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from berth.engine.tensors import Tensor
    from tests.serving.conftest import Engine
    from tests.serving.processes import Node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
MIB = 2**20
PARALLEL, CONTEXT = 2, 1024


def layers(name: str) -> bool:
    return name.startswith("blk.")


def attention(name: str) -> bool:
    return ".attn_q." in name or ".attn_v." in name


@pytest.fixture
def loaded(
    engine: Engine, model_file: Path, tmp_path: Path, start_worker: Callable[..., Node]
) -> Iterator[Callable[..., str]]:
    """Load the model on RPC servers that stand in for GPUs, answer once, and return the engine's log."""
    with contextlib.ExitStack() as stack:

        def run(files: Sequence[Path], gpus: int, model: Path = model_file) -> str:
            nodes = [start_worker(f"127.0.0.{2 + index}") for index in range(gpus)]
            for node in nodes:
                wait_until(lambda node=node: node.healthy, "a healthy worker")  # type: ignore[misc]
            server = plans.Server(
                model="smollm2", alias="smollm2", quantization="Q4_1", context_size=CONTEXT,
                parallel=PARALLEL, gpus=gpus, gpu_layers=31, tensor_split=(1,) * gpus if gpus > 1 else (),
                extra_args=("-lv", "4"),
            )  # fmt: skip
            command = argv.llama_server(server, str(model), [node.endpoint for node in nodes])
            command += ["--lora-scaled", ",".join(f"{file}:1" for file in files)]
            port = free_port()
            command[command.index("--port") + 1] = str(port)
            log = tmp_path / "engine.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command, env=engine.environment, stdout=output, stderr=output, start_new_session=True
                )
            stack.callback(end, process)
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: get(f"{url}/health")[0] == 200, "the model is loaded", 60)
            body = b'{"prompt": "The sea", "n_predict": 2}'
            with urllib.request.urlopen(f"{url}/completion", body, timeout=60) as answer:
                assert answer.status == 200
            end(process)
            return log.read_text(errors="replace")

        yield run


def planned(model_file: Path, adapters: tuple[int, ...], gpus: int) -> plans.Memory:
    layout = layouts.from_header(lora.header(model_file))
    settings = Settings(
        CONTEXT * PARALLEL, parallel=PARALLEL, gpus=gpus, tensor_split=(1,) * gpus if gpus > 1 else (),
        adapters=adapters,
    )  # fmt: skip
    return footprint(layout, settings)


@pytest.mark.parametrize(
    ("adapted", "ranks"),
    [
        pytest.param(attention, (8,), id="queries and values"),
        pytest.param(layers, (16, 64), id="two of all layers"),
        pytest.param(layers, (512,), id="a very wide one"),
    ],
)
def test_on_one_gpu_adapters_take_what_is_planned(
    model_file: Path,
    tmp_path: Path,
    loaded: Callable[..., str],
    adapted: Callable[[str], bool],
    ranks: tuple[int, ...],
) -> None:
    made: list[list[Tensor]] = [lora.tensors(model_file, rank, adapted) for rank in ranks]
    files = [
        lora.write(tmp_path / f"{rank}.gguf", model_file, some)
        for rank, some in zip(ranks, made, strict=True)
    ]
    text = loaded(files, 1)
    tensors = sum(tensor.size for some in made for tensor in some)
    on_disk = tuple(file.stat().st_size for file in files)
    assert sizes(text, "LoRA buffer size") == pytest.approx(tensors / MIB, abs=0.006 * len(files))
    plan, without = planned(model_file, on_disk, 1).gpus[0], planned(model_file, (), 1).gpus[0]
    counted = plan.weights - without.weights
    assert tensors <= counted == sum(on_disk) < tensors + 64 * 1024
    taken = last_compute(text)
    assert taken <= plan.compute / MIB + 0.006
    assert plan.compute / MIB < taken * 1.25


def test_on_two_gpus_no_adapter_takes_more_than_is_planned(
    model_file: Path, tmp_path: Path, loaded: Callable[..., str]
) -> None:
    made = lora.tensors(model_file, 16, layers)
    file = lora.write(tmp_path / "a.gguf", model_file, made)
    text = loaded([file], 2)
    size = file.stat().st_size
    assert sizes(text, "LoRA buffer size") == pytest.approx(sum(one.size for one in made) / MIB, abs=0.02)
    plan, without = planned(model_file, (size,), 2), planned(model_file, (), 2)
    assert [gpu.weights - before.weights for gpu, before in zip(plan.gpus, without.gpus, strict=True)] == [
        size,
        size,
    ]


def test_an_adapter_of_the_embedding_lies_on_the_host_and_is_counted_there(
    tmp_path: Path, loaded: Callable[..., str]
) -> None:
    model = tiny_projectors.write_text(tmp_path / "untied.gguf")
    made = lora.tensors(model, 64, lambda name: name == lora.EMBEDDING)
    file = lora.write(tmp_path / "embedding.gguf", model, made)
    text = loaded([file], 1, model)
    (line,) = [line for line in text.splitlines() if "LoRA buffer size" in line]
    assert "CPU" in line
    assert sizes(line, "LoRA buffer size") == pytest.approx(sum(one.size for one in made) / MIB, abs=0.006)
    size = file.stat().st_size
    assert planned(model, (size,), 1).host.weights - planned(model, (), 1).host.weights == size


def last_compute(log: str) -> float:
    """The compute buffer after the last reservation, in MiB, of the device that stands in for a GPU."""
    lines = [line for line in log.splitlines() if "RPC" in line and "compute buffer size" in line]
    return sizes(lines[-1], "compute buffer size")


def test_an_adapter_changes_answers_and_a_request_can_turn_it_off(
    engine: Engine, model_file: Path, tmp_path: Path
) -> None:
    made = lora.tensors(model_file, 4, layers)
    file = lora.write(tmp_path / "noise.gguf", model_file, made, spread=0.05)
    server = standalone.server(model_file, parallel=1, context_size=512, alias="smol")
    command = server.argv(str(model_file))
    command[command.index("--port") + 1] = str(free_port())
    command += ["--lora-scaled", f"{file}:1"]
    checked = ["--adapter", f"{file}:{file.stat().st_size}"]
    with fronts.running(engine, model_file, tmp_path, *checked, "--", *command) as front:
        asked: dict[str, Any] = {
            "prompt": "The capital of France is",
            "n_predict": 8,
            "temperature": 0,
            "ignore_eos": True,
        }
        asked["cache_prompt"] = False
        loud = front.post("/completion", asked)[1]["content"]
        plain = front.post("/completion", {**asked, "lora": [{"id": 0, "scale": 0}]})[1]["content"]
        again = front.post("/completion", asked)[1]["content"]
        assert loud == again != plain
        assert [one["scale"] for one in front_adapters(front)] == [1.0]
        assert "adapter: Unpinned" in front.log


def front_adapters(front: fronts.Front) -> list[dict[str, float]]:
    found: list[dict[str, float]] = json.loads(front.get("/lora-adapters")[1])
    return found


def test_an_adapter_larger_than_planned_ends_the_pod(
    engine: Engine, model_file: Path, tmp_path: Path
) -> None:
    file = lora.write(tmp_path / "a.gguf", model_file, lora.tensors(model_file, 4, attention))
    checked = ("--adapter", f"{file}:{file.stat().st_size - 1}")
    with fronts.running(engine, model_file, tmp_path, *checked, wait=False) as front:
        assert front.process.wait(60) == 65
        assert "the plan counted" in front.log
