"""The planner's words: what is short, by how much, and what to write instead.

The CLI and the webhook show these texts as they are. Amounts of memory are told in GiB.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from berth import choosing, fitting
from berth.engine import memory as engine
from berth.errors import InvalidSettings, UnknownArchitecture
from berth.problems import Path, Problem
from berth.quantities import gib

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from berth.catalog import Catalog
    from berth.fitting import Demand, Fit
    from berth.fleet import Fleet
    from berth.instances import InstanceType
    from berth.models import Model
    from berth.plans import Adapter, GpuMemory, Projector, Weights
    from berth.workspaces import Workspace

TIGHT_SHARE = 0.10
"""Below this share of spare memory a plan carries a warning."""
CACHE_TYPES = ("f16", "bf16", "q8_0", "q4_0")
"""KV types whose flash-attention kernels are in the CUDA builds; K and V must be of one type."""
_INSTANCE: Path = ("resource", "instanceType")
_COUNT: Path = ("resource", "count")
_OURS: Path = ("inference", "llamacpp")


def unknown(path: Path, value: str, error: Exception, rule: str) -> Problem:
    """Turn a catalogue's `Unknown…` error, which names the nearest names, into a problem."""
    reason, _, fix = str(error).partition("; ")
    return Problem(path, value, reason, fix, rule=rule)


def cache_types(cache_type_k: str, cache_type_v: str) -> Iterator[Problem]:
    """Yield what the CUDA builds of the engine cannot serve."""
    for field, value in (("cacheTypeK", cache_type_k), ("cacheTypeV", cache_type_v)):
        if value not in CACHE_TYPES:
            reason = f"the engine's CUDA builds have no flash attention for a KV cache of type {value!r}"
            yield Problem(
                (*_OURS, field), value, reason, f"write one of {', '.join(CACHE_TYPES)}", rule="cache-type"
            )
    if cache_type_k != cache_type_v and {cache_type_k, cache_type_v} <= set(CACHE_TYPES):
        mix = f"{cache_type_k} for K and {cache_type_v} for V"
        reason = f"the KV cache mixes {mix}, for which the engine's CUDA builds have no flash attention"
        fix = f"write cacheTypeK: {cache_type_v}, or cacheTypeV: {cache_type_k}"
        yield Problem((*_OURS, "cacheTypeK"), cache_type_k, reason, fix, rule="cache-type")


@lru_cache(maxsize=4_096)
def by_the_engine(demand: Demand) -> tuple[Problem, ...]:
    """Return why the engine would not start, whatever the GPU."""
    try:
        engine.check_settings(demand.layout, demand.settings(demand.wanted_context, gpus=1))
    except UnknownArchitecture as error:
        fix = "choose another preset; `berth presets` lists them"
        path = ("inference", "preset", "name")
        return (Problem(path, demand.model.name, str(error), fix, rule="architecture"),)
    except InvalidSettings as error:
        return (invalid_settings(error),)
    return ()


def invalid_settings(error: InvalidSettings) -> Problem:
    """Say why the engine would not start with the settings that the spec asks for."""
    fix = "write other cacheTypeK and cacheTypeV, contextSize or parallel"
    return Problem(_OURS, None, str(error), fix, rule="settings")


def no_weights(demand: Demand) -> Problem:
    reason = f"no published GGUF file of {demand.model.name} in {demand.quantization} is known"
    fix = "name yours in inference.llamacpp.weights, or set weights.source: image in berth.yaml"
    return Problem((*_OURS, "weights"), None, reason, fix, rule="weights")


def too_old(instance: InstanceType, catalog: Catalog) -> Problem:
    reason = (
        f"{instance.name} has {instance.gpu_model} of compute capability {instance.compute_capability}, "
        f"and the engine's builds start at {choosing.OLDEST_COMPUTE_CAPABILITY}"
    )
    return Problem(
        _INSTANCE, instance.name, reason, "choose an instance type of Volta or newer", rule="too-old"
    )


def candidates(catalog: Catalog, fleet: Fleet) -> list[InstanceType]:
    """Return the instance types that may be chosen where a spec names none."""
    own = [catalog.instance_type(entry["name"]) for entry in fleet.instance_types]
    if fleet.provisioning == "none" and own:
        return own
    return choosing.usable(catalog.instance_types.values(), fleet.cloud)


def unknown_nodes() -> Problem:
    reason = "the nodes exist already (provisioning: none), and nothing says which GPUs they have"
    fix = "write resource.instanceType, or list your nodes under instanceTypes in berth.yaml"
    return Problem(_INSTANCE, None, reason, fix, rule="unknown-nodes")


def too_small(
    workspace: Workspace,
    demand: Demand,
    instance: InstanceType,
    best: Fit,
    catalog: Catalog,
    fleet: Fleet,
    most_nodes: int,
) -> Problem:
    """Say what is short on the named instance type and everything that would fit instead."""
    count = workspace.resource.count or 1
    reason = f"{need(demand, best)}; {supply(instance)}, so each GPU is short of {gib(best.missing)}"
    if demand.images is not None and count > 1:
        reason += f". {count} nodes are not joined for a model that takes images"
    elif most_nodes == 1 and count > 1:
        reason += (
            f". {count} nodes would be joined over the engine's RPC, which has no authentication, and the "
            "fleet file does not declare networkPolicy: enforced"
        )
    fixes = list(_alternatives(workspace, demand, instance, best, catalog, fleet, most_nodes))
    fix = "write " + ", or ".join(fixes) if fixes else "choose a smaller model"
    return _short(_INSTANCE, workspace.resource.instance_type, reason, fix, best)


def _alternatives(
    workspace: Workspace,
    demand: Demand,
    instance: InstanceType,
    best: Fit,
    catalog: Catalog,
    fleet: Fleet,
    most_nodes: int,
) -> Iterator[str]:
    replicas = workspace.inference.llamacpp.replicas or 1
    pool = tuple(choosing.usable(catalog.instance_types.values(), instance.cloud))
    choice = choosing.cheapest(demand, pool, replicas, workspace.resource.count, most_nodes)
    if choice is not None:
        yield f"instanceType: {choice.fit.instance.name} ({_gpus(choice.fit.instance)})"
    context = fitting.largest_context(demand, instance, best.gpus, demand.wanted_context)
    if context >= fitting.SMALLEST_CONTEXT and context < demand.wanted_context:
        yield f"contextSize: {context}"
    quantization = _smaller_quantization(workspace, demand, instance, most_nodes)
    if quantization is not None:
        yield f"quantization: {quantization}"


def _smaller_quantization(
    workspace: Workspace, demand: Demand, instance: InstanceType, most_nodes: int
) -> str | None:
    """The largest smaller quantization that fits and whose file is known."""
    own = workspace.inference.llamacpp.weights is not None
    others = [
        (smaller.layout.size, name, smaller)
        for name, file in demand.model.quantizations.items()
        if own or file.repository is not None
        for smaller in (fitting.with_quantization(demand, name),)
        if smaller.layout.size < demand.layout.size
    ]
    for _, name, smaller in sorted(others, key=lambda entry: entry[:2], reverse=True):
        if fitting.smallest(smaller, instance, most_nodes) is not None:
            return name
    return None


def nothing_fits(
    workspace: Workspace, demand: Demand, pool: Sequence[InstanceType], fleet: Fleet, most_nodes: int
) -> Problem:
    """Say why no instance type holds a replica."""
    if not pool:
        reason = f"the catalogue has no usable instance type of the cloud {fleet.cloud!r}"
        return Problem(_INSTANCE, None, reason, "add instanceTypes to berth.yaml", rule="fit")
    largest = max(pool, key=lambda instance: (instance.gpu_count * instance.gpu_memory, instance.name))
    best = fitting.best(demand, largest, most_nodes)
    if best.fits:
        asked = workspace.inference.llamacpp.replicas or 1
        reason = f"{asked} replicas do not fit on {workspace.resource.count} nodes of any instance type"
        return Problem(_COUNT, workspace.resource.count, reason, "raise count or lower replicas", rule="fit")
    reason = f"{need(demand, best)}; the largest instance type is {supply(largest)}"
    fixes = []
    context = fitting.largest_context(demand, largest, best.gpus, demand.wanted_context)
    if fitting.SMALLEST_CONTEXT <= context < demand.wanted_context:
        fixes.append(f"inference.llamacpp.contextSize: {context}")
    quantization = _smaller_quantization(workspace, demand, largest, most_nodes)
    if quantization is not None:
        fixes.append(f"inference.llamacpp.quantization: {quantization}")
    if most_nodes == 1 and demand.images is None:
        fixes.append("networkPolicy: enforced in berth.yaml, where that is so, for several nodes")
    fix = "write " + ", or ".join(fixes) if fixes else "choose a smaller model"
    return _short(("inference", "preset", "name"), demand.model.name, reason, fix, best)


def _short(path: Path, value: str | None, reason: str, fix: str, best: Fit) -> Problem:
    """A refusal for want of memory, with the amounts of the fullest GPU."""
    needed = best.missing + best.instance.gpu_memory
    return Problem(
        path, value, reason, fix, rule="fit", needed_bytes=needed, available_bytes=best.instance.gpu_memory
    )


def host_too_small(demand: Demand, fit: Fit, replicas: int) -> Problem:
    """Say that the pods of a node ask for more of its own memory than it has, for the sake of images."""
    pods = "the pod of a replica asks" if replicas == 1 else f"the pods of {replicas} replicas ask"
    needed, there = replicas * fit.host_memory, fit.instance.memory or 0
    asked = f"{pods} for {gib(needed)} of a node's memory{_images_of(demand)}"
    reason = f"{asked}; {fit.instance.name} has {gib(there)}"
    fix = _FEWER_IMAGES + (", fewer replicas a node" if replicas > 1 else "") + ", or another instanceType"
    return Problem(
        _INSTANCE,
        fit.instance.name,
        reason,
        fix,
        rule="host-memory",
        needed_bytes=needed,
        available_bytes=there,
    )


def too_many_images(demand: Demand, least: int) -> Problem:
    """Say that no instance type has the memory to decode the images of all slots."""
    asked = f"a pod asks for {gib(least)} of a node's memory{_images_of(demand)}"
    reason = f"{asked}, and no instance type has as much"
    return Problem((*_OURS, "parallel"), demand.parallel, reason, _FEWER_IMAGES, rule="host-memory")


_FEWER_IMAGES = "write a smaller parallel or mmproj.maxImageTokens"


def _images_of(demand: Demand) -> str:
    taken = gib(demand.images.host) if demand.images else ""
    return f", {taken} of it for images of {_slots(demand.parallel)}"


def too_few_nodes(count: int, asked: int, room: int, fit: Fit) -> Problem:
    needed = choosing.nodes_for(fit, asked)
    need_text = f"{asked} replicas need {needed} nodes of {fit.instance.name}"
    reason = f"{need_text}, and count is {count}, which holds {room}"
    return Problem(_COUNT, count, reason, f"write count: {needed}, or replicas: {room}", rule="count")


def need(demand: Demand, fit: Fit) -> str:
    """What a replica takes: `llama-2-70b Q4_K_M with 4 slots of 4096 tokens needs …`."""
    fullest = max(fit.memory.gpus, key=lambda gpu: gpu.total)
    where = "one GPU" if fit.gpus == 1 else f"each of {fit.gpus} GPUs"
    slots = f"{_slots(demand.parallel)} of {fit.context_size} tokens"
    return (
        f"{demand.model.name} {demand.quantization} with {slots} needs {gib(fullest.total)} on {where} "
        f"(weights{_with_adapters(demand)} {gib(fullest.weights)}, KV cache {gib(fullest.kv_cache)}, "
        f"compute {gib(fullest.compute)}, {_for_images(fullest)}CUDA {gib(fullest.overhead)})"
    )


def _for_images(gpu: GpuMemory) -> str:
    return "" if gpu.projector is None else f"projector {gib(gpu.projector)}, "


def _with_adapters(demand: Demand) -> str:
    count = len(demand.adapters)
    return f" with {count} adapter{'s' if count > 1 else ''}" if count else ""


def supply(instance: InstanceType) -> str:
    """What an instance type has: `Standard_NC12s_v3 has 2 × NVIDIA V100 of 15.8 GiB`."""
    return f"{instance.name} has {_gpus(instance)}"


def _gpus(instance: InstanceType) -> str:
    return f"{instance.gpu_count} × {instance.gpu_model} of {gib(instance.gpu_memory)}"


def warnings(
    workspace: Workspace, demand: Demand, fit: Fit, nodes: int, replicas: int, source: Weights
) -> Iterator[Problem]:
    """Yield what a person should know of a plan that fits."""
    if fit.spare_share < TIGHT_SHARE:
        spare = f"{gib(-fit.missing)} of {gib(fit.instance.gpu_memory)} per GPU"
        yield _warning(
            _INSTANCE, fit.instance.name, f"fits with {fit.spare_share:.1%} to spare: {spare}", "tight"
        )
    if fit.context_size > demand.model.trained_context:
        reason = (
            f"contextSize {fit.context_size} is beyond the {demand.model.trained_context} tokens of training"
        )
        yield _warning((*_OURS, "contextSize"), fit.context_size, reason, "beyond-training")
    idle = nodes * fit.instance.gpu_count - replicas * fit.gpus
    if idle > 0 and fit.nodes == 1:
        room = nodes * fit.replicas_per_node
        more = f"; replicas: {room} would use them" if room > replicas else ""
        reason = f"{idle} of {nodes * fit.instance.gpu_count} GPUs stay idle{more}"
        yield _warning((*_OURS, "replicas"), replicas, reason, "idle-gpus")
    if fit.instance.retired:
        reason = f"{fit.instance.name} is retired by its cloud: {fit.instance.retired}"
        yield _warning(_INSTANCE, fit.instance.name, reason, "retired")
    if source.hf and not source.token_secret and _gated(demand.model, source.hf):
        reason = f"{source.hf} is gated: name a Secret with HF_TOKEN in presetOptions.modelAccessSecret"
        yield _warning(("inference", "preset", "presetOptions"), None, reason, "gated")


def _gated(model: Model, repository: str) -> bool:
    """A gated model's publisher asks for a token; others who publish its GGUF files usually don't."""
    owner = repository.partition("/")[0].casefold()
    publishers = {name.partition("/")[0].casefold() for name in model.names if "/" in name}
    return model.gated and owner in publishers


def _warning(path: Path, value: object, reason: str, rule: str) -> Problem:
    return Problem(path, value, reason, severity="warning", rule=rule)


def explanation(
    demand: Demand,
    fit: Fit,
    smaller: Fit | None,
    source: Weights,
    adapters: Sequence[Adapter] = (),
    projector: Projector | None = None,
) -> Iterator[str]:
    """Yield why this plan and not less: the choice, what the next smaller one lacks, and the weights."""
    yield f"{need(demand, fit)}; {supply(fit.instance)}"
    if smaller is not None:
        gpus, each = ("1 GPU", "") if smaller.gpus == 1 else (f"{smaller.gpus} GPUs", " each")
        yield f"{gpus} of {smaller.instance.name} would be short of {gib(smaller.missing)}{each}"
    place = source.image or source.hf or f"the volume claim {source.pvc}"
    yield f"weights: {source.file} from {place}, {gib(source.size)}, {_pin(source.pinned)}"
    first = fit.memory.gpus[0].projector
    if projector is not None and first is not None:
        yield (
            f"images: {projector.file} from the same place, {gib(first)} on the first GPU for up to "
            f"{projector.image_tokens} tokens each, {gib(fit.memory.host.projector or 0)} of the node's "
            f"memory, {_pin(projector.pinned)}"
        )
    for adapter in adapters:
        yield (
            f"adapter {adapter.name}: {adapter.file} from {adapter.image}, {gib(adapter.size)} on each GPU, "
            f"strength {adapter.strength:g}, {_pin(adapter.pinned)}"
        )


def _pin(pinned: bool) -> str:
    return "pinned by digest" if pinned else "Unpinned: no digest fixes their content"


def _slots(parallel: int) -> str:
    return "1 slot" if parallel == 1 else f"{parallel} slots"
