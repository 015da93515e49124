"""The planner: one Workspace in, one plan out, or the reasons why nothing fits.

Same input, same plan, on any machine. `plan` is called by `berth render` once; what it returns travels to
admission, the watcher and the pod, and none of them plans again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING

from berth import adapters, choosing, fitting, projectors, refusals, weights
from berth.errors import InvalidSettings, NoFit, UnknownInstanceType, UnknownModel, UnknownQuantization
from berth.fleet import Fleet
from berth.plans import CACHE_RAM, HOST_ALLOWANCE, Cost, EngineVariant, NodeRequest, Plan, Server
from berth.quantities import GIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from berth.catalog import Catalog
    from berth.engine.settings import Images
    from berth.fitting import Demand, Fit
    from berth.instances import InstanceType
    from berth.models import Model
    from berth.problems import Problem
    from berth.workspaces import Workspace

NODE_DISK_FOR_SYSTEM = 40 * GIB
"""Of a node's own disk: operating system, the engine's images, logs. An allowance, not measured."""


@dataclass(frozen=True)
class Decision:
    """What was decided and what a person should know of it; the plan is written out when it is asked for.

    A check of a thousand Workspaces needs a thousand verdicts and no plan. The plan repeats the warnings as
    text. What less would lack takes as long to find out as the plan itself, and only people read it.
    """

    write: Callable[[], Plan]
    warnings: tuple[Problem, ...]
    explain: Callable[[], tuple[str, ...]] = tuple

    @cached_property
    def unexplained(self) -> Plan:
        """The plan without its sentences for people."""
        return self.write()

    @cached_property
    def plan(self) -> Plan:
        return self.unexplained.model_copy(update={"explanation": self.explain()})


def plan(workspace: Workspace, catalog: Catalog, fleet: Fleet | None = None) -> Plan:
    """Return the plan of a well-formed Workspace.

    Raises:
        NoFit: nothing satisfies the spec; it carries every problem with its field path.
    """
    return decide(workspace, catalog, fleet or Fleet()).plan


def decide(workspace: Workspace, catalog: Catalog, fleet: Fleet) -> Decision:
    """Return the plan with its warnings as values; raises as `plan` does."""
    if workspace.inference.template is not None:
        return _template_plan(workspace, catalog, fleet)
    found: list[Problem] = []
    demand = _demand(workspace, catalog, found)
    instance = _named_instance(workspace, catalog, found)
    if demand is None or found:
        raise NoFit(found)
    try:
        return _placed(workspace, demand, instance, catalog, fleet)
    except InvalidSettings as error:
        raise NoFit([refusals.invalid_settings(error)]) from None


def _placed(
    workspace: Workspace, demand: Demand, instance: InstanceType | None, catalog: Catalog, fleet: Fleet
) -> Decision:
    most_nodes = _most_nodes(workspace, fleet)
    if instance is not None:
        fit = fitting.best(demand, instance, most_nodes)
        if not fit.fits:
            raise NoFit([refusals.too_small(workspace, demand, instance, fit, catalog, fleet, most_nodes)])
    else:
        fit = _cheapest(workspace, demand, catalog, fleet, most_nodes)
    return _plan(workspace, demand, fit, catalog, fleet)


def names(workspace: Workspace, catalog: Catalog) -> list[Problem]:
    """Return the problems of what a spec names, also where it can't be planned for other reasons."""
    found: list[Problem] = []
    _demand(workspace, catalog, found)
    if workspace.inference.template is None:
        _named_instance(workspace, catalog, found)
    return found


def _demand(workspace: Workspace, catalog: Catalog, found: list[Problem]) -> Demand | None:
    preset, ours = workspace.inference.preset, workspace.inference.llamacpp
    if preset is None:
        return None
    try:
        model = catalog.model(preset.name)
    except UnknownModel as error:
        found.append(refusals.unknown(("inference", "preset", "name"), preset.name, error, "unknown-preset"))
        return None
    quantization = _quantization(ours.quantization, model, found)
    if quantization is None:
        return None
    key, value = ours.cache_type_k or "f16", ours.cache_type_v or "f16"
    found += refusals.cache_types(key, value)
    context, parallel = ours.context_size or model.default_context, ours.parallel or fitting.DEFAULT_PARALLEL
    found += projectors.problems(workspace, model, model.default_context if context == "auto" else context)
    if found:
        return None
    demand = fitting.demand(
        model,
        quantization,
        context_size=context,
        parallel=parallel,
        cache_type_k=key,
        cache_type_v=value,
        adapters=tuple(adapter.size for adapter in adapters.of(workspace)),
    )
    demand = projectors.counted(workspace, demand)
    found += refusals.by_the_engine(demand)
    return None if found else demand


def _quantization(asked: str | None, model: Model, found: list[Problem]) -> str | None:
    if asked is None:
        return model.default_quantization
    try:
        return model.quantization(asked)
    except UnknownQuantization as error:
        path = ("inference", "llamacpp", "quantization")
        found.append(refusals.unknown(path, asked, error, "quantization"))
        return None


def _named_instance(workspace: Workspace, catalog: Catalog, found: list[Problem]) -> InstanceType | None:
    name = workspace.resource.instance_type
    if name is None:
        return None
    try:
        instance = catalog.instance_type(name)
    except UnknownInstanceType as error:
        found.append(_unknown_instance(name, error))
        return None
    if instance.compute_capability < choosing.OLDEST_COMPUTE_CAPABILITY:
        found.append(refusals.too_old(instance, catalog))
    return instance


def _unknown_instance(name: str, error: UnknownInstanceType) -> Problem:
    return refusals.unknown(("resource", "instanceType"), name, error, "unknown-instance-type")


def _most_nodes(workspace: Workspace, fleet: Fleet) -> int:
    """Several nodes only where the network keeps strangers from the engine's RPC.

    The engine has its projector on a GPU of its own node, and counts those of other nodes first.
    """
    if fleet.network_policy != "enforced" or workspace.inference.llamacpp.mmproj is not None:
        return 1
    return min(workspace.resource.count or fitting.MOST_NODES_PER_REPLICA, fitting.MOST_NODES_PER_REPLICA)


def _cheapest(workspace: Workspace, demand: Demand, catalog: Catalog, fleet: Fleet, most_nodes: int) -> Fit:
    if fleet.provisioning == "none" and not fleet.instance_types:
        raise NoFit([refusals.unknown_nodes()])
    candidates = refusals.candidates(catalog, fleet)
    if demand.images is not None:
        roomy = [one for one in candidates if _least_on_host(demand.images) <= (one.memory or inf)]
        if candidates and not roomy:
            raise NoFit([refusals.too_many_images(demand, _least_on_host(demand.images))])
        candidates = roomy
    replicas = workspace.inference.llamacpp.replicas or 1
    found = choosing.cheapest(demand, candidates, replicas, workspace.resource.count, most_nodes)
    if found is None:
        raise NoFit([refusals.nothing_fits(workspace, demand, candidates, fleet, most_nodes)])
    return found.fit


def _plan(workspace: Workspace, demand: Demand, fit: Fit, catalog: Catalog, fleet: Fleet) -> Decision:
    smallest = fit
    fit = fitting.with_context(demand, fit)
    nodes, replicas = _nodes_and_replicas(workspace, fit)
    if not _holds_on_host(demand, fit, fit.instance, nodes, replicas):
        raise NoFit([refusals.host_too_small(demand, fit, -(-replicas // nodes))])
    fallbacks = tuple(
        instance
        for instance in _fallbacks(fit, demand, catalog, fleet)
        if _holds_on_host(demand, fit, instance, nodes, replicas)
    )
    source = weights.of(workspace, demand, fleet)
    if source is None:
        raise NoFit([refusals.no_weights(demand)])
    if elsewhere := list(projectors.elsewhere(workspace, demand.model, source)):
        raise NoFit(elsewhere)
    projector = projectors.of(workspace, demand, source)
    warnings = tuple(refusals.warnings(workspace, demand, fit, nodes, replicas, source))
    beside = (*demand.adapters, projector.size if projector else 0)

    def write() -> Plan:
        server = Server(
            model=demand.model.name,
            alias=demand.model.name,
            quantization=demand.quantization,
            task=demand.model.task,
            context_size=fit.context_size,
            parallel=demand.parallel,
            batch=demand.batch,
            ubatch=demand.ubatch,
            cache_type_k=demand.cache_type_k,
            cache_type_v=demand.cache_type_v,
            flash_attention=demand.flash_attention,
            gpu_layers=demand.layout.hyperparameters.layers + 1,
            gpus=fit.gpus,
            tensor_split=(1,) * fit.gpus if fit.gpus > 1 else (),
            variant=variant((fit.instance, *fallbacks)),
            adapters=adapters.of(workspace) or None,
            mmproj=projector,
            extra_args=tuple(workspace.inference.llamacpp.extra_args),
        )
        return Plan(
            name=workspace.name,
            namespace=workspace.namespace,
            spec_digest=workspace.spec_digest,
            catalog_digest=catalog.digest(
                demand.model, (fit.instance, *fallbacks), images=projector is not None
            ),
            fleet_digest=fleet.digest,
            nodes=NodeRequest(
                instance_type=fit.instance.name,
                fallback_instance_types=tuple(instance.name for instance in fallbacks),
                count=nodes,
                gpus_per_node=fit.instance.gpu_count,
                gpu_model=fit.instance.gpu_model,
                labels=dict(workspace.resource.match_labels),
                preferred=tuple(workspace.resource.preferred_nodes),
                disk=_disk(source.size + sum(beside), fit, fleet),
                provisioning=fleet.provisioning,
            ),
            replicas=replicas,
            gpus_per_replica=fit.gpus,
            nodes_per_replica=fit.nodes,
            server=server,
            memory=fit.memory,
            weights=source,
            surge=_room_for_surge(fit, nodes, replicas),
            cost=_cost(fit.instance, nodes),
            warnings=tuple(warning.reason for warning in warnings),
        )

    def explain() -> tuple[str, ...]:
        smaller = fitting.one_less(demand, smallest)
        if smaller is None and workspace.resource.instance_type is None:
            smaller = choosing.next_smaller(demand, smallest, refusals.candidates(catalog, fleet))
        told = refusals.explanation(demand, fit, smaller, source, adapters.of(workspace), projector)
        return tuple(told)

    return Decision(write, warnings, explain)


def _least_on_host(images: Images) -> int:
    return HOST_ALLOWANCE + CACHE_RAM + images.host


def _holds_on_host(demand: Demand, fit: Fit, instance: InstanceType, nodes: int, replicas: int) -> bool:
    """Whether a node has the memory that its pods ask for, which takes images to be much of it."""
    if demand.images is None or instance.memory is None:
        return True
    return -(-replicas // nodes) * fit.host_memory <= instance.memory


def _nodes_and_replicas(workspace: Workspace, fit: Fit) -> tuple[int, int]:
    """Given nodes are filled with replicas; otherwise the replicas say how many nodes there are."""
    count, asked = workspace.resource.count, workspace.inference.llamacpp.replicas
    if count is None:
        replicas = asked or 1
        return choosing.nodes_for(fit, replicas), replicas
    room = count // fit.nodes if fit.nodes > 1 else count * fit.replicas_per_node
    if asked is not None and asked > room:
        raise NoFit([refusals.too_few_nodes(count, asked, room, fit)])
    return count, asked or room


def _room_for_surge(fit: Fit, nodes: int, replicas: int) -> bool:
    room = nodes // fit.nodes if fit.nodes > 1 else nodes * fit.replicas_per_node
    return room > replicas and fit.nodes == 1


def _fallbacks(fit: Fit, demand: Demand, catalog: Catalog, fleet: Fleet) -> tuple[InstanceType, ...]:
    """The fleet's fallback instance types for which this very plan is valid too."""
    valid = []
    for name in fleet.fallback_instance_types:
        instance = catalog.instance_type(name)
        same_shape = instance.gpu_count >= fit.instance.gpu_count or fit.gpus <= instance.gpu_count == 1
        if instance.name == fit.instance.name or not same_shape or fit.nodes > 1:
            continue
        if fitting.holds(demand, instance, fit.gpus, fit.context_size):
            valid.append(instance)
    return tuple(valid)


def variant(instances: tuple[InstanceType, ...]) -> EngineVariant:
    """CUDA 13 dropped Volta: one build must run on every instance type that the plan names."""
    return "cuda13" if all(instance.compute_capability >= 7.5 for instance in instances) else "cuda12"


def _cost(instance: InstanceType, nodes: int) -> Cost | None:
    price = instance.price
    if price is None:
        return None
    return Cost(per_hour=round(float(price.per_hour) * nodes, 4), currency=price.currency, as_of=price.as_of)


def _disk(weights_size: int, fit: Fit, fleet: Fleet) -> int:
    """Images are unpacked beside their layers, and an init container copies once more."""
    copies = 1 if fleet.weights.source != "image" else 2 if fleet.weights.image_volumes else 3
    per_node = max(1, fit.replicas_per_node) if copies != 2 else 1
    return -(-(NODE_DISK_FOR_SYSTEM + weights_size * copies * per_node) // GIB) * GIB


def _template_plan(workspace: Workspace, catalog: Catalog, fleet: Fleet) -> Decision:
    """A pod of the user's own: its nodes are planned, its memory is the user's concern."""
    name, instance = workspace.resource.instance_type, None
    warnings: list[Problem] = []
    if name is not None:
        try:
            instance = catalog.instance_type(name)
        except UnknownInstanceType as error:
            warnings.append(replace(_unknown_instance(name, error), severity="warning"))
    count = workspace.resource.count or 1
    plan = Plan(
        name=workspace.name,
        namespace=workspace.namespace,
        spec_digest=workspace.spec_digest,
        catalog_digest=catalog.digest(None, (instance,) if instance else ()),
        fleet_digest=fleet.digest,
        nodes=NodeRequest(
            instance_type=instance.name if instance else name,
            count=count,
            gpus_per_node=instance.gpu_count if instance else 0,
            gpu_model=instance.gpu_model if instance else None,
            labels=dict(workspace.resource.match_labels),
            preferred=tuple(workspace.resource.preferred_nodes),
            disk=NODE_DISK_FOR_SYSTEM,
            provisioning=fleet.provisioning,
        ),
        replicas=workspace.inference.llamacpp.replicas or count,
        gpus_per_replica=0,
        nodes_per_replica=1,
        cost=_cost(instance, count) if instance else None,
        warnings=tuple(warning.message for warning in warnings),
    )
    return Decision(lambda: plan, tuple(warnings))
