"""The engine's command line says everything and leaves nothing to the engine."""

from typing import Any

import pytest

from berth import argv, flags
from berth.plans import Server


def server(**changes: Any) -> Server:
    values: dict[str, Any] = {
        "model": "falcon-7b",
        "alias": "falcon-7b",
        "quantization": "Q4_K_M",
        "context_size": 2048,
        "parallel": 4,
        "gpu_layers": 33,
        "gpus": 1,
    }
    return Server(**{**values, **changes})


def value(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def test_the_context_flag_is_the_total_over_all_slots() -> None:
    assert value(server().argv("/m.gguf"), "--ctx-size") == "8192"


def test_the_engine_never_fits_by_itself_nor_downloads() -> None:
    arguments = server().argv("/m.gguf")
    assert value(arguments, "--fit") == "off"
    assert "--offline" in arguments


def test_it_listens_to_its_own_pod_alone() -> None:
    assert value(server().argv("/m.gguf"), "--host") == "127.0.0.1"


def test_one_gpu_is_not_split() -> None:
    arguments = server().argv("/m.gguf")
    assert value(arguments, "--split-mode") == "none"
    assert "--tensor-split" not in arguments


def test_several_gpus_are_split_by_layers_in_equal_shares() -> None:
    arguments = server(gpus=2, tensor_split=(1, 1)).argv("/m.gguf")
    assert value(arguments, "--split-mode") == "layer"
    assert value(arguments, "--tensor-split") == "1,1"


def test_workers_on_other_nodes_become_devices() -> None:
    arguments = argv.llama_server(
        server(gpus=4, tensor_split=(1,) * 4), "/m.gguf", rpc=["a:50052", "b:50052"]
    )
    assert value(arguments, "--rpc") == "a:50052,b:50052"


@pytest.mark.parametrize(
    ("task", "flag"),
    [
        ("chat", "--jinja"),
        ("completion", "--no-jinja"),
        ("embedding", "--embeddings"),
        ("rerank", "--reranking"),
    ],
)
def test_each_task_has_its_flag(task: str, flag: str) -> None:
    assert flag in server(task=task).argv("/m.gguf")


def test_the_users_own_arguments_come_last() -> None:
    assert server(extra_args=("--temp", "0.2")).argv("/m.gguf")[-2:] == ["--temp", "0.2"]


def test_every_flag_of_the_plan_is_refused_in_extra_arguments() -> None:
    arguments = argv.llama_server(server(gpus=2, tensor_split=(1, 1)), "/m.gguf", rpc=["a:1"])
    planned = [argument for argument in arguments[1:] if argument.startswith("--")]
    allowed = [flag for flag in planned if not list(flags.faults([flag, "1"]))]
    assert allowed == []
