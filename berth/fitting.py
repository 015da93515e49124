"""How many GPUs one replica takes on a given instance type, and how much context then fits.

A replica takes the fewest GPUs that hold it: first of one node, then, where several nodes are allowed,
all GPUs of two nodes and more. The figures come from `berth.engine`; nothing here estimates.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from berth.engine import memory as engine
from berth.engine.checks import flash_attention_on_cuda
from berth.engine.devices import MOST_GPUS
from berth.plans import CACHE_RAM, HOST_ALLOWANCE

if TYPE_CHECKING:
    from berth.engine.layouts import Layout
    from berth.engine.settings import Images
    from berth.instances import InstanceType
    from berth.models import Model
    from berth.plans import Memory

DEFAULT_PARALLEL = 4
"""Slots served at once; four keep a GPU busy while each still gets a useful context."""
MOST_NODES_PER_REPLICA = 8
"""More would put a network hop between a handful of layers; no published model needs it."""
MEASUREMENTS = 4_096
"""Remembered at once: some thirty MiB, which a program that runs for good has to live within."""
SMALLEST_CONTEXT = 256
"""Tokens per slot; the engine pads contexts to multiples of it."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one replica asks, apart from GPUs. `context_size` is tokens per slot.

    Two demands are equal where the model's digest and all settings are: measurements are remembered by it.
    """

    model: Model = field(compare=False)
    model_digest: str
    quantization: str
    layout: Layout = field(compare=False)
    context_size: int | Literal["auto"]
    parallel: int
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    batch: int = 2048
    ubatch: int = 512
    embeddings: bool = False
    flash_attention: bool = True
    """Off where CUDA has none for the model's heads: attention would be computed on the host."""
    adapters: tuple[int, ...] = ()
    """Bytes of each LoRA adapter."""
    images: Images | None = None
    """What taking images takes beside the model."""

    @property
    def wanted_context(self) -> int:
        """The context that decides how many GPUs a replica takes; `auto` grows beyond it afterwards."""
        return self.model.default_context if self.context_size == "auto" else self.context_size

    def settings(self, context_size: int, gpus: int) -> engine.Settings:
        """The engine's settings for a context per slot and a number of equal GPUs."""
        return engine.Settings(
            context=context_size * self.parallel,
            parallel=self.parallel,
            cache_type_k=self.cache_type_k,
            cache_type_v=self.cache_type_v,
            flash_attention=self.flash_attention,
            ubatch=self.ubatch,
            batch=self.batch,
            embeddings=self.embeddings,
            gpus=gpus,
            tensor_split=(1,) * gpus if gpus > 1 else (),
            adapters=self.adapters,
            images=self.images,
        )


def demand(
    model: Model,
    quantization: str,
    *,
    context_size: int | Literal["auto"],
    parallel: int = DEFAULT_PARALLEL,
    cache_type_k: str = "f16",
    cache_type_v: str = "f16",
    adapters: tuple[int, ...] = (),
) -> Demand:
    """Return what a replica of a model asks, with the batch that its task needs.

    An encoder sees a whole text at once, so its batch holds the longest one that a slot takes.
    """
    embeds = model.task in ("embedding", "rerank")
    batch = _batch(model, context_size) if embeds else 2048
    made = Demand(
        model=model,
        model_digest=model.digest,
        quantization=quantization,
        layout=model.layout(quantization),
        context_size=context_size,
        parallel=parallel,
        cache_type_k=cache_type_k,
        cache_type_v=cache_type_v,
        batch=batch,
        ubatch=batch if embeds else 512,
        embeddings=embeds,
        adapters=adapters,
    )
    return made if _has_flash_attention(made) else replace(made, flash_attention=False)


def _batch(model: Model, context_size: int | Literal["auto"]) -> int:
    """The longest text that an encoder may have to see at once."""
    return max(
        512, model.trained_context if context_size == "auto" else min(context_size, model.trained_context)
    )


def with_context_size(demand: Demand, context_size: int) -> Demand:
    """Return the same demand for another context per slot."""
    batch = _batch(demand.model, context_size) if demand.embeddings else demand.batch
    ubatch = batch if demand.embeddings else demand.ubatch
    return replace(demand, context_size=context_size, batch=batch, ubatch=ubatch)


def with_images(demand: Demand, images: Images) -> Demand:
    """Return the same demand with what images take, and with batches that hold one where they must."""
    return replace(
        demand,
        images=images,
        ubatch=max(demand.ubatch, images.at_once),
        batch=max(demand.batch, images.at_once),
    )


@lru_cache(maxsize=4_096)
def _has_flash_attention(demand: Demand) -> bool:
    settings = demand.settings(demand.wanted_context, gpus=1)
    return flash_attention_on_cuda(demand.layout, settings) is None


@dataclass(frozen=True, slots=True)
class Fit:
    """One replica on GPUs of an instance type, with the figures that were compared."""

    instance: InstanceType
    gpus: int
    nodes: int
    context_size: int
    memory: Memory

    @property
    def missing(self) -> int:
        """Bytes that the fullest GPU lacks; zero or less where it fits."""
        return max(gpu.total for gpu in self.memory.gpus) - self.instance.gpu_memory

    @property
    def fits(self) -> bool:
        return self.missing <= 0

    @property
    def spare_share(self) -> float:
        """The unused share of the fullest GPU's memory."""
        return -self.missing / self.instance.gpu_memory

    @property
    def host_memory(self) -> int:
        """Bytes of a node's own memory that the pod of one replica asks for."""
        return HOST_ALLOWANCE + CACHE_RAM + self.memory.host.total

    @property
    def replicas_per_node(self) -> int:
        """Replicas side by side on one node; zero where a replica needs several nodes."""
        return self.instance.gpu_count // self.gpus if self.nodes == 1 else 0


@lru_cache(maxsize=MEASUREMENTS)
def measure(demand: Demand, instance: InstanceType, gpus: int, context_size: int) -> Fit:
    """Return what a replica takes on `gpus` GPUs, whether it fits or not."""
    memory = engine.footprint(
        demand.layout, demand.settings(context_size, gpus), engine.overhead(instance.gpu_model)
    )
    per_node = instance.gpu_count
    nodes = -(-gpus // per_node)
    gpus_with_capacity = tuple(
        gpu.model_copy(update={"capacity": instance.gpu_memory}) for gpu in memory.gpus
    )
    return Fit(instance, gpus, nodes, context_size, memory.model_copy(update={"gpus": gpus_with_capacity}))


def too_much(demand: Demand, instance: InstanceType, gpus: int, context_size: int) -> bool:
    """Return whether weights and cache alone are too much, which takes no replay of the engine to know."""
    settings = demand.settings(context_size, gpus)
    return engine.least(demand.layout, settings, engine.overhead(instance.gpu_model)) > instance.gpu_memory


def holds(demand: Demand, instance: InstanceType, gpus: int, context_size: int) -> bool:
    """Return whether a replica fits on `gpus` GPUs."""
    if too_much(demand, instance, gpus, context_size):
        return False
    return measure(demand, instance, gpus, context_size).fits


def counts(demand: Demand, instance: InstanceType, most_nodes: int = 1) -> list[int]:
    """Return the numbers of GPUs to try, fewest first."""
    most = min(demand.layout.hyperparameters.layers + 1, MOST_GPUS)
    on_one = [gpus for gpus in range(1, instance.gpu_count + 1) if gpus <= most]
    return on_one + [
        instance.gpu_count * n for n in range(2, most_nodes + 1) if instance.gpu_count * n <= most
    ]


@lru_cache(maxsize=16_384)
def fewest(demand: Demand, instance: InstanceType, most_nodes: int = 1) -> int | None:
    """Return a number of GPUs below which a replica fits for certain nowhere; None where it never fits."""
    context = demand.wanted_context
    tried = counts(demand, instance, most_nodes)
    return next((gpus for gpus in tried if not too_much(demand, instance, gpus, context)), None)


@lru_cache(maxsize=8_192)
def smallest(demand: Demand, instance: InstanceType, most_nodes: int = 1) -> Fit | None:
    """Return a replica on the fewest GPUs that hold it; None where none do."""
    context = demand.wanted_context
    for gpus in counts(demand, instance, most_nodes):
        if holds(demand, instance, gpus, context):
            return measure(demand, instance, gpus, context)
    return None


def best(demand: Demand, instance: InstanceType, most_nodes: int = 1) -> Fit:
    """Return a replica on the fewest GPUs that hold it; where none do, on the most there are."""
    found = smallest(demand, instance, most_nodes)
    if found is not None:
        return found
    return measure(demand, instance, counts(demand, instance, most_nodes)[-1], demand.wanted_context)


def one_less(demand: Demand, fit: Fit) -> Fit | None:
    """Return the last attempt before the one that fits, which says why less is not enough."""
    fewer = [gpus for gpus in counts(demand, fit.instance, fit.nodes) if gpus < fit.gpus]
    return measure(demand, fit.instance, fewer[-1], demand.wanted_context) if fewer else None


def with_context(demand: Demand, fit: Fit) -> Fit:
    """Return the fit with its final context: the asked one, or the largest that fits for `auto`."""
    if demand.context_size != "auto":
        return fit
    largest = largest_context(demand, fit.instance, fit.gpus, demand.model.trained_context)
    return fit if largest <= fit.context_size else measure(demand, fit.instance, fit.gpus, largest)


@lru_cache(maxsize=4_096)
def largest_context(
    demand: Demand, instance: InstanceType, gpus: int, limit: int, *, nearly: bool = False
) -> int:
    """Return the largest context per slot, in tokens, that fits up to `limit`; 0 where none does.

    `nearly` takes one that is a little smaller and found sooner: enough for what is only proposed.
    """
    return engine.largest_context(
        demand.layout,
        demand.settings(SMALLEST_CONTEXT, gpus),
        instance.gpu_memory,
        engine.overhead(instance.gpu_model),
        limit,
        nearly=nearly,
    )


def with_quantization(demand: Demand, quantization: str) -> Demand:
    """Return the same demand for another quantization of the same model."""
    return replace(demand, quantization=quantization, layout=demand.model.layout(quantization))
