"""The catalogues for people: presets, instance types, and everything known of one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from berth import choosing, fitting, projectors
from berth.errors import CatalogError, UnknownInstanceType, UnknownModel
from berth.quantities import gib
from generator import own, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from berth.catalog import Catalog
    from berth.instances import InstanceType
    from berth.models import Model


_OWN = "the fleet file"


def show_presets(search: str | None, *, as_json: bool, fleet: Path | None = None) -> None:
    """Print the presets whose name, alias, family or title holds `search`."""
    found = own.catalog(fleet).search(search or "")
    if as_json:
        print(json.dumps({"presets": [_preset(model) for model in found]}, indent=2))
        return
    rows = [
        (
            model.name,
            model.title,
            model.task,
            str(model.trained_context),
            model.default_quantization,
            gib(_size(model, model.default_quantization)),
            f"{model.license}{' (gated)' if model.gated else ''}",
        )
        for model in found
    ]
    _table(("Preset", "Model", "Task", "Context", "Default", "Weights", "Licence"), rows)
    _none_found(rows, search, "preset")


def show_instance_types(search: str | None, *, as_json: bool, fleet: Path | None = None) -> None:
    """Print the instance types whose name, cloud or GPU holds `search`."""
    text = (search or "").casefold()
    found = [
        instance
        for instance in sorted(
            own.catalog(fleet).instance_types.values(), key=lambda one: (one.cloud, one.name)
        )
        if text in f"{instance.name} {instance.cloud} {instance.gpu_model}".casefold()
    ]
    if as_json:
        print(json.dumps({"instanceTypes": [_instance(instance) for instance in found]}, indent=2))
        return
    rows = [
        (
            instance.name,
            instance.cloud,
            f"{instance.gpu_count} × {instance.gpu_model}",
            gib(instance.gpu_memory),
            str(instance.compute_capability),
            _price(instance),
            "retired" if instance.retired else "",
        )
        for instance in found
    ]
    _table(("Instance type", "Cloud", "GPUs", "Memory each", "Compute", "Price per hour", ""), rows)
    _none_found(rows, search, "instance type")


def explain(name: str, *, as_json: bool, fleet: Path | None = None) -> None:
    """Print everything known of one preset or instance type.

    Raises:
        CatalogError: neither has that name.
    """
    known = own.catalog(fleet)
    try:
        model = known.model(name)
    except UnknownModel as no_model:
        try:
            instance = known.instance_type(name)
        except UnknownInstanceType as no_instance:
            raise CatalogError(f"{no_model}\nand {no_instance}") from None
        _explain_instance(instance, as_json)
        return
    _explain_model(model, known, as_json)


def _explain_model(model: Model, known: Catalog, as_json: bool) -> None:
    fitting_types = _cheapest_by_cloud(model, known)
    if as_json:
        clouds = {cloud: choice.fit.instance.name for cloud, choice in fitting_types.items()}
        print(json.dumps({**_preset(model), "smallestInstanceTypes": clouds}, indent=2))
        return
    print(f"{model.name}: {model.title}")
    if model.aliases:
        print(f"  also named       {', '.join(model.aliases)}")
    print(f"  task             {model.task}")
    gated = " (gated: needs a token)" if model.gated else ""
    print(f"  licence          {model.license} {model.license_url or ''}{gated}")
    print(f"  context          {model.default_context} tokens per slot, {model.trained_context} trained")
    print("  quantizations    * is taken where a Workspace names none")
    for quantization, file in model.quantizations.items():
        mark = "*" if quantization == model.default_quantization else " "
        size = gib(_size(model, quantization))
        print(f"   {mark} {quantization:<8} {size:>10}  {file.location or 'no published file is known'}")
    if model.projector is not None:
        taken = projectors.measure(model.projector)
        print(
            f"  images           with `mmproj: {{}}`: {gib(taken.weights + taken.compute)} more on the first "
            f"GPU, up to {taken.tokens} tokens each"
        )
        print(f"                   {model.projector.location or model.projector.file}")
    print(f"  cheapest fit at {fitting.DEFAULT_PARALLEL} slots of {model.default_context} tokens")
    for cloud, choice in fitting_types.items():
        fit = choice.fit
        gpus = f"{fit.gpus} of {fit.instance.gpu_count} × {fit.instance.gpu_model}"
        print(f"    {cloud:<7} {fit.instance.name}: {gpus}")
    print(f"  source           {f'{model.source} ({model.as_of})' if model.source else _OWN}")


def _explain_instance(instance: InstanceType, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_instance(instance), indent=2))
        return
    print(f"{instance.name} ({instance.cloud})")
    print(f"  GPUs               {instance.gpu_count} × {instance.gpu_model}")
    print(f"  memory per GPU     {gib(instance.gpu_memory)} usable")
    print(f"  compute capability {instance.compute_capability}")
    if instance.vcpus is not None:
        print(f"  vCPUs              {instance.vcpus}")
    if instance.memory is not None:
        print(f"  host memory        {gib(instance.memory)}")
    if instance.local_disk is not None:
        print(f"  local disk         {gib(instance.local_disk)}")
    print(f"  price per hour     {_price(instance)}")
    if instance.retired:
        print(f"  retired            {instance.retired}")
    print(f"  source             {instance.source or _OWN}")


def _cheapest_by_cloud(model: Model, known: Catalog) -> dict[str, choosing.Choice]:
    demand = fitting.demand(model, model.default_quantization, context_size=model.default_context)
    instances = known.instance_types.values()
    found = {}
    for cloud in sorted({instance.cloud for instance in instances}):
        best = choosing.cheapest(demand, choosing.usable(instances, cloud), 1, None, 1)
        if best is not None:
            found[cloud] = best
    return found


def _preset(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "title": model.title,
        "aliases": list(model.aliases),
        "family": model.family,
        "task": model.task,
        "license": model.license,
        "licenseUrl": model.license_url,
        "gated": model.gated,
        "trainedContext": model.trained_context,
        "defaultContext": model.default_context,
        "defaultQuantization": model.default_quantization,
        "quantizations": {
            name: {
                "weights": _size(model, name),
                "repository": file.repository,
                "file": file.file,
                "revision": file.revision,
                "sha256": file.sha256,
            }
            for name, file in model.quantizations.items()
        },
        "projector": _projector(model),
        "source": model.source,
        "asOf": model.as_of,
        "unit": "bytes",
    }


def _projector(model: Model) -> dict[str, Any] | None:
    known = model.projector
    if known is None:
        return None
    taken = projectors.measure(known)
    return {
        "memory": taken.weights + taken.compute,
        "imageTokens": taken.tokens,
        "repository": known.repository,
        "file": known.file,
        "revision": known.revision,
        "sha256": known.sha256,
    }


def _instance(instance: InstanceType) -> dict[str, Any]:
    price = instance.price
    return {
        "name": instance.name,
        "cloud": instance.cloud,
        "gpuModel": instance.gpu_model,
        "gpuCount": instance.gpu_count,
        "gpuMemory": instance.gpu_memory,
        "computeCapability": instance.compute_capability,
        "vcpus": instance.vcpus,
        "memory": instance.memory,
        "localDisk": instance.local_disk,
        "pricePerHour": float(price.per_hour) if price else None,
        "currency": price.currency if price else None,
        "priceRegion": price.region if price else None,
        "priceAsOf": price.as_of if price else None,
        "retired": instance.retired or None,
        "source": instance.source,
        "unit": "bytes",
    }


def _size(model: Model, quantization: str) -> int:
    return model.layout(quantization).size


def _price(instance: InstanceType) -> str:
    price = instance.price
    return (
        f"{float(price.per_hour):.2f} {price.currency} ({price.region}, {price.as_of})"
        if price
        else "unknown"
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    terminal.table(head, rows, whole=("Preset", "Instance type"))


def _none_found(rows: Sequence[tuple[str, ...]], search: str | None, kind: str) -> None:
    if not rows:
        raise CatalogError(f"no {kind} matches {search!r}; run the command without it to see all")
