"""The engine's command lines as pure functions of a plan, every flag explicit.

Nothing is left to the engine's defaults or to its own fitting (`--fit off`): what was reviewed in git is
what runs. Flag names are those of the llama.cpp inside the pinned llama-cpp-python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth import labels
from berth.quantities import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from berth.plans import Server


def as_written(server: Server) -> Server:
    """Return the settings as they have to stand in a manifest, so that the engine gets them as they are.

    Kubernetes replaces `$(NAME)` in arguments by a variable and `$$` by `$`; a chat template may hold both.
    """
    return server.model_copy(
        update={"extra_args": tuple(word.replace("$", "$$") for word in server.extra_args)}
    )


def llama_server(server: Server, model_path: str, rpc: Sequence[str] = ()) -> list[str]:
    """Return `llama-server`'s argument vector, the program's name first.

    `model_path` is the GGUF file in the pod, the first part of a split one. `rpc` names the workers of a
    replica on several nodes as `host:port`, in the order of the plan's GPUs: the engine counts remote
    devices before local ones, so the leader's own GPUs come last.
    """
    arguments = [
        "llama-server",
        "--model", model_path,
        "--alias", server.alias,
        "--host", "127.0.0.1",
        "--port", str(labels.ENGINE_PORT),
        "--ctx-size", str(server.context_size * server.parallel),
        "--parallel", str(server.parallel),
        "--kv-unified" if server.kv_unified else "--no-kv-unified",
        "--batch-size", str(server.batch),
        "--ubatch-size", str(server.ubatch),
        "--cache-type-k", server.cache_type_k,
        "--cache-type-v", server.cache_type_v,
        "--flash-attn", "on" if server.flash_attention else "off",
        "--n-gpu-layers", str(server.gpu_layers),
        "--split-mode", "layer" if server.gpus > 1 else "none",
    ]  # fmt: skip
    if server.tensor_split:
        arguments += ["--tensor-split", ",".join(map(str, server.tensor_split))]
    if server.adapters:
        scaled = (f"{adapter.path}:{adapter.strength:g}" for adapter in server.adapters)
        arguments += ["--lora-scaled", ",".join(scaled)]
    if server.mmproj is not None:
        arguments += ["--mmproj", server.mmproj.path, "--mmproj-offload"]
        arguments += ["--mtmd-batch-max-tokens", str(server.mmproj.batch_tokens)]
        if server.mmproj.max_image_tokens is not None:
            arguments += ["--image-max-tokens", str(server.mmproj.max_image_tokens)]
    if rpc:
        arguments += ["--rpc", ",".join(rpc)]
    arguments += [
        "--fit", "off",
        "--cont-batching",
        "--cache-ram", str(server.cache_ram // MIB),
        "--ctx-checkpoints", str(server.context_checkpoints),
        "--offline",
        "--no-ui",
        "--metrics",
    ]  # fmt: skip
    arguments += _TASK_FLAGS[server.task]
    return [*arguments, *server.extra_args]


def rpc_server(port: int = labels.RPC_PORT) -> list[str]:
    """Return the argument vector of a worker on another node; it listens to the whole pod network.

    Its protocol has no authentication: only a NetworkPolicy to the Workspace's own pods makes it fit for a
    cluster, so the planner asks for `networkPolicy: enforced` first.
    """
    return ["ggml-rpc-server", "--host", "0.0.0.0", "--port", str(port), "--cache"]


_TASK_FLAGS = {
    "chat": ["--jinja"],
    "completion": ["--no-jinja"],
    "embedding": ["--embeddings"],
    "rerank": ["--reranking"],
}
