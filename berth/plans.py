"""The plan: what `berth render` decides once and what everything downstream obeys.

It travels as JSON (camelCase keys): an annotation of the Workspace, a ConfigMap for people, the watcher's
input and the pod's settings. Amounts are bytes and tokens; money is per hour of all nodes together.
"""

import hashlib
import json
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

PLAN_VERSION = 1
"""Goes up whenever the same spec and catalogue give another plan: admission compares within a version."""

WEIGHTS_FOLDER = "/models"
"""In the pod; every source of weights ends as files below it."""
ADAPTERS_FOLDER = "/adapters"
"""In the pod, with a folder for each adapter's image."""

HOST_ALLOWANCE = 3 * 1024**3 // 2
"""Host memory of a pod beside what the plan itemises: CUDA's own, the HTTP front, requests. An estimate."""
CACHE_RAM = 1024**3
"""Host memory for prompts that were seen before; the engine's own default is 8 GiB."""

Provisioning = Literal["nodeclaim", "machine", "nodepool", "none"]
Task = Literal["chat", "completion", "embedding", "rerank"]
EngineVariant = Literal["cuda12", "cuda13", "cpu"]


class Frozen(BaseModel):
    """An immutable value with camelCase JSON keys, which refuses unknown ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """The value as JSON data, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class GpuMemory(Frozen):
    """What one GPU holds of one replica, in bytes; without a capacity where no GPU is named."""

    weights: int
    kv_cache: int
    compute: int
    overhead: int
    projector: int | None = None
    """Weights and compute buffer of the projector, which is on the first GPU alone."""
    total: int
    capacity: int | None = None


class HostMemory(Frozen):
    """What one replica's leader holds in host memory, in bytes."""

    weights: int
    kv_cache: int
    compute: int
    projector: int | None = None
    total: int


class Memory(Frozen):
    """The memory of one replica, GPU by GPU in the order of the engine's devices."""

    gpus: tuple[GpuMemory, ...]
    host: HostMemory
    unit: Literal["bytes"] = "bytes"


class Weights(Frozen):
    """Where a replica's GGUF file comes from; exactly one of `hf`, `image` and `pvc` is set.

    `file` is the file's path below the mounted weights, the first one of a split model. `pinned` says
    whether the content is fixed by a digest: an image digest, or the sha256 of every file.
    """

    hf: str | None = None
    revision: str | None = None
    token_secret: str | None = None
    image: str | None = None
    pull_secrets: tuple[str, ...] = ()
    pvc: str | None = None
    file: str
    size: int
    sha256: str | None = None
    pinned: bool = False
    stamp: bool | None = None
    """Whether one pod notes the checked sha256 beside the file for all; None where each hashes for itself."""


class Adapter(Frozen):
    """A LoRA adapter: one GGUF file in an image. `size` is its bytes, `strength` the engine's scale."""

    name: str
    image: str
    pull_secrets: tuple[str, ...] = ()
    file: str
    size: int
    sha256: str | None = None
    strength: float = 1.0
    pinned: bool = False

    @property
    def path(self) -> str:
        """The file's path in the pod."""
        return f"{ADAPTERS_FOLDER}/{self.name}/{self.file}"


class Projector(Frozen):
    """What turns images into a model's tokens: one GGUF file in the source of the model's own weights.

    `size` is its bytes, `image_tokens` what the largest image takes of a slot's context.
    """

    file: str
    size: int
    sha256: str | None = None
    pinned: bool = False
    image_tokens: int
    max_image_tokens: int | None = None
    """The asked bound of an image, None where the projector's own holds."""
    batch_tokens: int
    """The engine's `--mtmd-batch-max-tokens`: tokens of several images that are computed at once."""

    @property
    def path(self) -> str:
        """The file's path in the pod."""
        return str(PurePosixPath(WEIGHTS_FOLDER, self.file))


class Server(Frozen):
    """What runs in the pod. `context_size` is tokens per slot; llama-server's `-c` is the total."""

    model: str
    alias: str
    quantization: str
    task: Task = "chat"
    context_size: int
    parallel: int
    batch: int = 2048
    ubatch: int = 512
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attention: bool = True
    kv_unified: bool = False
    gpu_layers: int
    gpus: int
    """GPUs of one replica, over all its nodes."""
    tensor_split: tuple[int, ...] = ()
    """The engine's `--tensor-split`, one number per GPU; empty on a single GPU."""
    variant: EngineVariant = "cuda13"
    cache_ram: int = CACHE_RAM
    """Host memory in bytes for prompts that were seen before."""
    context_checkpoints: int = 8
    """Host copies of sliding-window and recurrent state per slot."""
    adapters: tuple[Adapter, ...] | None = None
    """LoRA adapters in the order of the engine's own numbers; None where there are none."""
    mmproj: Projector | None = None
    """None where the model is served for text alone."""
    extra_args: tuple[str, ...] = ()

    def argv(self, model_path: str) -> list[str]:
        """The engine's whole command line, every flag explicit; see `berth.argv`."""
        from berth import argv

        return argv.llama_server(self, model_path)


class NodeRequest(Frozen):
    """The nodes of a Workspace: `count` of `instance_type`, or of the first fallback to be had."""

    instance_type: str | None
    fallback_instance_types: tuple[str, ...] = ()
    count: int
    gpus_per_node: int
    gpu_model: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    preferred: tuple[str, ...] = ()
    disk: int = 0
    """Bytes of the node's own disk that images, weights and logs need."""
    provisioning: Provisioning = "nodeclaim"


class Cost(Frozen):
    """What the nodes cost, where every price is known."""

    per_hour: float
    currency: str
    as_of: str


class Plan(Frozen):
    """One Workspace's plan. A `template` Workspace has no server, memory or weights."""

    version: int = PLAN_VERSION
    name: str
    namespace: str | None = None
    spec_digest: str
    catalog_digest: str
    fleet_digest: str | None = None
    nodes: NodeRequest
    replicas: int
    gpus_per_replica: int
    nodes_per_replica: int
    server: Server | None = None
    memory: Memory | None = None
    weights: Weights | None = None
    surge: bool = False
    """Whether the planned nodes hold one replica more than asked, so that a rollout may surge."""
    cost: Cost | None = None
    warnings: tuple[str, ...] = ()
    explanation: tuple[str, ...] = ()
    """Why this and not less: one sentence each, for people."""

    def dumps(self) -> str:
        """The plan as one line of canonical JSON."""
        return canonical(self.to_json())

    @property
    def server_digest(self) -> str:
        """Changes exactly when the pods must be replaced."""
        return self.server_copy()[1]

    def server_copy(self) -> tuple[str, str]:
        """The part of the plan that the pods are made from, as canonical JSON, and its digest."""
        copy = {
            "server": self.server.to_json() if self.server else None,
            "weights": self.weights.to_json() if self.weights else None,
            "gpusPerReplica": self.gpus_per_replica,
            "nodesPerReplica": self.nodes_per_replica,
        }
        return canonical(copy), digest(copy)


def canonical(data: Any) -> str:
    """JSON with sorted keys and no blanks: the same data, the same text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(data: Any) -> str:
    """A short name for JSON data: `sha256:` and the first 16 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(canonical(data).encode()).hexdigest()[:16]
