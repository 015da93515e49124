"""The planner: one Workspace in, one plan out, or the reasons why nothing fits.

Same input, same plan, on any machine. `plan` is called by `berth render` once; what it returns travels to
admission, the watcher and the pod, and none of them plans again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from berth import adapters, choosing, fitting, placing, projectors, refusals, weights
from berth.errors import InvalidSettings, NoFit, UnknownInstanceType, UnknownModel, UnknownQuantization
from berth.fleet import Fleet
from berth.plans import Cost, EngineVariant, NodeRequest, Plan, Server
from berth.quantities import GIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from berth.catalog import Catalog
    from berth.fitting import Demand, Fit
    from berth.instances import InstanceType
    from berth.models import Model
    from berth.placing import Case
    from berth.plans import Weights
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
        raise NoFit([*found, *_too_old(instance)])
    case = placing.case(workspace, demand, instance, catalog, fleet)
    try:
        return _placed(workspace, case, catalog, fleet)
    except InvalidSettings as error:
        raise NoFit([refusals.invalid_settings(error, demand)]) from None


def _placed(workspace: Workspace, case: Case, catalog: Catalog, fleet: Fleet) -> Decision:
    known = weights.known(workspace, case.demand.model, fleet)
    source = weights.of(workspace, case.demand, fleet)
    fit, found = None, list(_too_old(case.instance, case, catalog))
    if not found:
        try:
            fit = _fit(case, catalog, fleet, known)
        except NoFit as error:
            found += error.problems
    if source is None:
        found.append(refusals.no_weights(case, known))
    else:
        found += projectors.elsewhere(workspace, case.demand.model, source)
    if fit is None or source is None or found:
        raise NoFit(found)
    return _plan(workspace, case, fit, source, catalog, fleet)


def _fit(case: Case, catalog: Catalog, fleet: Fleet, known: list[str]) -> Fit:
    """One replica at the wanted context, where all of them have a place."""
    if case.instance is None and fleet.provisioning == "none" and not fleet.instance_types:
        raise NoFit([refusals.unknown_nodes()])
    fit = case.fit()
    if fit is None and case.instance is not None:
        raise NoFit([refusals.too_small(case, case.instance, catalog, known)])
    if fit is None:
        raise NoFit([refusals.nothing_fits(case, fleet, known)])
    room = case.room(fit)
    if room is not None and (case.replicas or 1) > room:
        raise NoFit([refusals.too_few_nodes(case, fit, room)])
    final = fitting.with_context(case.demand, fit)
    if not case.holds_on_host(final, fit.instance):
        nodes, replicas = case.nodes_and_replicas(fit)
        raise NoFit([refusals.host_too_small(case.demand, final, -(-replicas // nodes))])
    return fit


def names(workspace: Workspace, catalog: Catalog) -> list[Problem]:
    """Return the problems of what a spec names, also where it can't be planned for other reasons."""
    found: list[Problem] = []
    _demand(workspace, catalog, found)
    if workspace.inference.template is None:
        instance = _named_instance(workspace, catalog, found)
        found += _too_old(instance)
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
    context, parallel = ours.context_size or model.default_context, ours.parallel or fitting.DEFAULT_PARALLEL
    demand = fitting.demand(
        model,
        quantization,
        context_size=context,
        parallel=parallel,
        cache_type_k=ours.cache_type_k or "f16",
        cache_type_v=ours.cache_type_v or "f16",
        adapters=tuple(adapter.size for adapter in adapters.of(workspace)),
    )
    found += projectors.problems(workspace, model, model.default_context if context == "auto" else context)
    if not found:
        demand = projectors.counted(workspace, demand)
    if demand.cache_type_k != demand.cache_type_v:
        found.append(refusals.mixed_cache(demand))
    else:
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
        return catalog.instance_type(name)
    except UnknownInstanceType as error:
        found.append(_unknown_instance(name, error))
        return None


def _too_old(
    instance: InstanceType | None, case: Case | None = None, catalog: Catalog | None = None
) -> Iterator[Problem]:
    if instance is not None and instance.compute_capability < choosing.OLDEST_COMPUTE_CAPABILITY:
        other = placing.elsewhere(case, catalog) if case is not None and catalog is not None else None
        yield refusals.too_old(instance, other)


def _unknown_instance(name: str, error: UnknownInstanceType) -> Problem:
    return refusals.unknown(("resource", "instanceType"), name, error, "unknown-instance-type")


def _plan(
    workspace: Workspace, case: Case, smallest: Fit, source: Weights, catalog: Catalog, fleet: Fleet
) -> Decision:
    demand = case.demand
    fit = fitting.with_context(demand, smallest)
    nodes, replicas = case.nodes_and_replicas(fit)
    fallbacks = _fallbacks(case, fit, catalog, fleet)
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
            surge=case.room_for_surge(fit),
            cost=_cost(fit.instance, nodes),
            warnings=tuple(warning.reason for warning in warnings),
        )

    def explain() -> tuple[str, ...]:
        smaller = fitting.one_less(demand, smallest)
        if smaller is None and workspace.resource.instance_type is None:
            smaller = choosing.next_smaller(demand, smallest, case.pool)
        told = refusals.explanation(demand, fit, smaller, source, adapters.of(workspace), projector)
        return tuple(told)

    return Decision(write, warnings, explain)


def _fallbacks(case: Case, fit: Fit, catalog: Catalog, fleet: Fleet) -> tuple[InstanceType, ...]:
    """The fleet's fallback instance types for which this very plan is valid too."""
    valid = []
    for name in fleet.fallback_instance_types:
        instance = catalog.instance_type(name)
        same_shape = instance.gpu_count >= fit.instance.gpu_count or fit.gpus <= instance.gpu_count == 1
        if instance.name == fit.instance.name or not same_shape or fit.nodes > 1:
            continue
        if fitting.holds(case.demand, instance, fit.gpus, fit.context_size) and case.holds_on_host(
            fit, instance
        ):
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
