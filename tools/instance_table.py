"""The page docs/reference/instance-types.md, made from the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth import catalog, instances
from berth.quantities import format_bytes, gib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.instances import GpuModel, InstanceType

CLOUDS = {"azure": "Azure", "aws": "Amazon Web Services", "gcp": "Google Cloud"}

INTRODUCTION = """\
# Instance types

<!-- Made by `make docs` from presets/gpus; do not edit. -->

Memory is what CUDA reports, per GPU: less than the brochure says and less than nvidia-smi shows. A price is
that of one node per hour on demand, in the region and at the date named above each table; without prices the
planner compares GPUs and memory instead. `berth skus` lists the same on the command line, and `instanceTypes`
and `prices` in `berth.yaml` add to it. Each name leads to its source.
"""


def text() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    types = catalog.load().instance_types.values()
    for cloud, title in CLOUDS.items():
        found = [one for one in types if one.cloud == cloud]
        sources = {
            source: f"{cloud}-{n}" for n, source in enumerate(dict.fromkeys(one.source for one in found))
        }
        parts.append(f"## {title}\n\n{_prices(found)}" + "\n".join(_table(found, sources)) + "\n")
        parts.append("\n".join(f"[{key}]: {source}" for source, key in sources.items()) + "\n")
    parts.append("## GPUs\n\n" + "\n".join(_gpus()) + "\n")
    return "\n".join(parts)


def _prices(found: list[InstanceType]) -> str:
    prices = [one.price for one in found if one.price is not None]
    if not prices:
        return "No prices with a date are known.\n\n"
    usual = prices[0]
    told = f"Prices in {usual.currency}, {usual.region}, {usual.as_of}, unless noted"
    return f"{told} ([source]({usual.source})).\n\n"


def _table(found: list[InstanceType], sources: dict[str | None, str]) -> Iterator[str]:
    yield "| name | GPUs | memory each | vCPUs | host memory | local disk | price | notes |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    usual = next((one.price.region for one in found if one.price is not None), None)
    for one in found:
        host = format_bytes(one.memory) if one.memory else ""
        disk = gib(one.local_disk) if one.local_disk else ""
        price = f"{one.price.per_hour:.2f}" if one.price else ""
        cells = (
            f"[{one.name}][{sources[one.source]}]", f"{one.gpu_count} x {one.gpu_model}", gib(one.gpu_memory),
            str(one.vcpus or ""), host, disk, price, "; ".join(_notes(one, usual)),
        )  # fmt: skip
        yield "| " + " | ".join(cells) + " |"


def _notes(one: InstanceType, usual_region: str | None) -> Iterator[str]:
    if one.retired:
        yield f"retired {one.retired}"
    if one.gpu_fraction:
        yield f"{one.gpu_fraction} of a GPU"
    if not one.automatic:
        yield "only where a spec names it"
    if one.price is not None and one.price.region != usual_region:
        yield f"price of {one.price.region}"


def _gpus() -> Iterator[str]:
    yield "| GPU | memory | compute capability | seen | note |"
    yield "| --- | --- | --- | --- | --- |"
    for model in instances.gpu_models().values():
        yield f"| {' | '.join(_gpu(model))} |"


def _gpu(model: GpuModel) -> tuple[str, ...]:
    memory = format_bytes(model.memory) + (" (estimated)" if model.estimated else "")
    seen = f"[{model.as_of}]({model.source})"
    return model.name, memory, str(model.compute_capability), seen, model.note or ""


if __name__ == "__main__":
    print(text(), end="")
