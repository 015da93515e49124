"""The planner's words: what is short, by how much, and what to write instead.

The CLI and the webhook show these texts as they are. Amounts of memory are told in GiB.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from berth import choosing, fitting, placing
from berth.engine import memory as engine
from berth.errors import InvalidSettings, UnknownArchitecture
from berth.problems import Path, Problem
from berth.quantities import gib
from berth.spec.resources import MOST_NODES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from berth.catalog import Catalog
    from berth.fitting import Demand, Fit
    from berth.fleet import Fleet
    from berth.instances import InstanceType
    from berth.models import Model
    from berth.placing import Case
    from berth.plans import Adapter, GpuMemory, Projector, Weights
    from berth.workspaces import Workspace

TIGHT_SHARE = 0.10
"""Below this share of spare memory a plan carries a warning."""
_INSTANCE: Path = ("resource", "instanceType")
_COUNT: Path = ("resource", "count")
_OURS: Path = ("inference", "llamacpp")


def unknown(path: Path, value: str, error: Exception, rule: str) -> Problem:
    """Turn a catalogue's `Unknown…` error, which names the nearest names, into a problem."""
    reason, _, fix = str(error).partition("; ")
    return Problem(path, value, reason, fix, rule=rule)


def mixed_cache(demand: Demand) -> Problem:
    """Say that the CUDA builds have kernels for a KV cache of one type alone."""
    keys, values = demand.cache_type_k, demand.cache_type_v
    mix = f"{keys} for K and {values} for V"
    reason = f"the KV cache mixes {mix}, for which the engine's CUDA builds have no flash attention"
    fixes = [
        f"{field}: {kind}"
        for field, kind in (("cacheTypeK", values), ("cacheTypeV", keys))
        if _starts(_with_cache(demand, kind))
    ]
    fix = "write " + ", or ".join(fixes) if fixes else "leave both out"
    return Problem((*_OURS, "cacheTypeK"), keys, reason, fix, rule="cache-type")


def _with_cache(demand: Demand, kind: str) -> Demand:
    return replace(demand, cache_type_k=kind, cache_type_v=kind)


def _starts(demand: Demand) -> bool:
    """Whether the engine starts with these settings."""
    try:
        engine.footprint(demand.layout, demand.settings(demand.wanted_context, gpus=1))
    except InvalidSettings:
        return False
    return True


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
        return (invalid_settings(error, demand),)
    return ()


def invalid_settings(error: InvalidSettings, demand: Demand) -> Problem:
    """Say why the engine would not start with the settings that the spec asks for."""
    fixes = list(_other_settings(demand))
    fix = "write " + ", or ".join(fixes) if fixes else "write other cacheTypeK and cacheTypeV, or parallel"
    return Problem(_OURS, None, str(error), fix, rule="settings")


def _other_settings(demand: Demand) -> Iterator[str]:
    """The nearest settings with which the engine starts."""
    if _starts(_with_cache(demand, "f16")):
        yield "cacheTypeK: f16 and cacheTypeV: f16"
    slots = demand.parallel
    while slots > 1:
        slots = 2 ** ((slots - 1).bit_length() - 1)
        if _starts(replace(demand, parallel=slots)):
            yield f"parallel: {slots}"
            break
    context = engine.LARGEST_CONTEXT // demand.parallel // fitting.SMALLEST_CONTEXT * fitting.SMALLEST_CONTEXT
    if context < demand.wanted_context and _starts(fitting.with_context_size(demand, context)):
        yield f"contextSize: {context}"


def no_weights(case: Case, known: list[str]) -> Problem:
    """Say that nothing tells where the file is; `known` are the quantizations whose file has a source."""
    demand = case.demand
    reason = f"no published GGUF file of {demand.model.name} in {demand.quantization} is known"
    fix = "name yours in inference.llamacpp.weights, or set weights.source: image in berth.yaml"
    other = placing.other_quantization(case, known, smaller=False)
    if other is not None:
        fix = f"write quantization: {other}, or {fix}"
    return Problem((*_OURS, "weights"), None, reason, fix, rule="weights")


def too_old(instance: InstanceType, other: InstanceType | None) -> Problem:
    """Say that the GPUs are older than what the engine is built for, and where the replicas stand."""
    reason = (
        f"{instance.name} has {instance.gpu_model} of compute capability {instance.compute_capability}, "
        f"and the engine's builds start at {choosing.OLDEST_COMPUTE_CAPABILITY}"
    )
    fix = "choose an instance type of Volta or newer"
    if other is not None:
        fix = f"write instanceType: {other.name} ({_gpus(other)}), or another one of Volta or newer"
    return Problem(_INSTANCE, instance.name, reason, fix, rule="too-old")


def unknown_nodes() -> Problem:
    reason = "the nodes exist already (provisioning: none), and nothing says which GPUs they have"
    fix = "write resource.instanceType, or list your nodes under instanceTypes in berth.yaml"
    return Problem(_INSTANCE, None, reason, fix, rule="unknown-nodes")


def too_small(case: Case, instance: InstanceType, catalog: Catalog, known: list[str]) -> Problem:
    """Say what is short on the named instance type and everything that would do instead.

    `known` are the quantizations whose file has a source.
    """
    demand, count = case.demand, case.count or 1
    best = fitting.best(demand, instance, case.most_nodes)
    reason = f"{need(demand, best)}; {supply(instance)}, so each GPU is short of {gib(best.missing)}"
    if demand.images is not None and count > 1:
        reason += f". {count} nodes are not joined for a model that takes images"
    elif not case.joined and count > 1:
        reason += (
            f". {count} nodes would be joined over the engine's RPC, which has no authentication, and the "
            "fleet file does not declare networkPolicy: enforced"
        )
    fixes = [f"instanceType: {other.name} ({_gpus(other)})" for other in _other_type(case, catalog)]
    fixes += [*_less_of(case, instance, known), *_together(case)]
    return _short(_INSTANCE, instance.name, reason, _either(fixes), best)


def nothing_fits(case: Case, fleet: Fleet, known: list[str]) -> Problem:
    """Say why no instance type holds the replicas."""
    if not case.pool:
        reason = f"the catalogue has no usable instance type of the cloud {fleet.cloud!r}"
        return Problem(_INSTANCE, None, reason, "add instanceTypes to berth.yaml", rule="fit")
    demand = case.demand
    if not case.roomy:
        return _too_many_images(case)
    if replace(case, replicas=None).stands():
        return _too_few_anywhere(case)
    largest = max(case.roomy, key=lambda instance: (instance.gpu_count * instance.gpu_memory, instance.name))
    best = fitting.best(demand, largest, case.most_nodes)
    reason = f"{need(demand, best)}; the largest instance type, {largest.name}, has {_gpus(largest)}"
    fixes = [f"inference.llamacpp.{fix}" for fix in _less_of(case, largest, known)]
    fixes += _together(case)
    return _short(("inference", "preset", "name"), demand.model.name, reason, _either(fixes), best)


def _other_type(case: Case, catalog: Catalog) -> Iterator[InstanceType]:
    other = placing.elsewhere(case, catalog)
    if other is not None:
        yield other


def _less_of(case: Case, instance: InstanceType, known: list[str]) -> list[str]:
    """What is smaller and stands; where nothing does with all replicas, what stands with one."""
    found = list(_less(case, instance, known))
    if found or case.count is None or case.replicas in (None, 1):
        return found
    return [f"{fix} and replicas: 1" for fix in _less(replace(case, replicas=1), instance, known)]


def _less(case: Case, instance: InstanceType, known: list[str]) -> Iterator[str]:
    """The smaller context and quantization with which the replicas stand."""
    context = placing.smaller_context(case, instance)
    if context is not None:
        yield f"contextSize: {context}"
    quantization = placing.other_quantization(case, known, smaller=True)
    if quantization is not None:
        yield f"quantization: {quantization}"


def _together(case: Case) -> Iterator[str]:
    if case.demand.images is None and not case.joined and replace(case, joined=True).stands():
        yield "networkPolicy: enforced in berth.yaml, where that is so, for several nodes"


def _either(fixes: Sequence[str]) -> str:
    return "write " + ", or ".join(fixes) if fixes else "choose a smaller model"


def _too_few_anywhere(case: Case) -> Problem:
    """Say that the given nodes of no instance type hold all replicas, though they hold one."""
    asked, count = case.replicas or 1, case.count or 1
    on_each = [fit for one in case.roomy if (fit := fitting.smallest(case.demand, one, case.most_nodes))]
    fewest = min(choosing.nodes_for(fit, asked) for fit in on_each)
    most = max(case.room(fit) or 0 for fit in on_each)
    nodes = "1 node" if count == 1 else f"{count} nodes"
    reason = f"{asked} replicas do not fit on {nodes} of any instance type"
    return Problem(_COUNT, count, reason, _more_nodes(case, fewest, most), rule="fit")


def _more_nodes(case: Case, count: int, replicas: int) -> str:
    fixes = []
    if count <= MOST_NODES and replace(case, count=count).stands():
        fixes.append(f"count: {count}")
    if replace(case, replicas=replicas).stands():
        fixes.append(f"replicas: {replicas}")
    return _either(fixes)


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


def _too_many_images(case: Case) -> Problem:
    """Say that no instance type has the memory to decode the images of all slots."""
    asked = f"a pod asks for {gib(case.least_on_host)} of a node's memory{_images_of(case.demand)}"
    reason = f"{asked}, and no instance type has as much"
    return Problem((*_OURS, "parallel"), case.demand.parallel, reason, _FEWER_IMAGES, rule="host-memory")


_FEWER_IMAGES = "write a smaller parallel or mmproj.maxImageTokens"


def _images_of(demand: Demand) -> str:
    taken = gib(demand.images.host) if demand.images else ""
    return f", {taken} of it for images of {_slots(demand.parallel)}"


def too_few_nodes(case: Case, fit: Fit, room: int) -> Problem:
    """Say that the given nodes hold fewer replicas than are asked for."""
    asked = case.replicas or 1
    needed = choosing.nodes_for(fit, asked)
    need_text = f"{asked} replicas need {needed} nodes of {fit.instance.name}"
    reason = f"{need_text}, and count is {case.count}, which holds {room}"
    return Problem(_COUNT, case.count, reason, _more_nodes(case, needed, room), rule="count")


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
