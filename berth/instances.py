"""Instance types: what a node of each kind offers a model, above all the memory of each GPU.

Data stands in `presets/gpus/`: `gpus.yaml` says once per GPU model what CUDA reports as its memory, and the
clouds' files list their instance types by family. A fleet file lists further ones under `instanceTypes`,
one entry each; where it names a GPU model of ours, memory and compute capability come from there.
"""

import datetime
import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from importlib import resources
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from berth import quantities
from berth.plans import Frozen, digest

GPU_MODELS_FILE = "gpus.yaml"


def _bytes(value: Any) -> Any:
    """Read `28Gi`, `900G` or a plain number of bytes; a part of a byte is dropped."""
    return int(quantities.parse(value)) if isinstance(value, str) else value


def _date(value: Any) -> Any:
    """YAML turns a bare date into one; JSON and plans carry its text."""
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str):
        try:
            datetime.date.fromisoformat(value)
        except ValueError:
            raise ValueError("a date is written like 2026-01-31") from None
    return value


def _source(value: Any) -> Any:
    if isinstance(value, str) and not value.startswith("https://"):
        raise ValueError("a source is an https:// address")
    return value


def _label_value(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value):
        raise ValueError("a name is at most 63 letters, digits, `-`, `_` and `.`, as a node's label has it")
    return value


Bytes = Annotated[int, BeforeValidator(_bytes), Field(gt=0, lt=2**60)]
"""A number of bytes, or a quantity such as `16Gi`."""
Date = Annotated[str, BeforeValidator(_date)]
Address = Annotated[str, BeforeValidator(_source)]
Name = Annotated[str, AfterValidator(_label_value)]
"""What fits into the node label `node.kubernetes.io/instance-type`."""


class GpuModel(Frozen):
    """A GPU as CUDA sees it; `memory` is the smallest total that CUDA was seen to report.

    It is less than nvidia-smi's total, which counts what the driver keeps, and that is less than the
    brochure's. Where no report of CUDA's own figure was found the memory is `estimated`, on the low side,
    and `note` says how.
    """

    name: str
    memory: Bytes
    compute_capability: float
    source: Address
    as_of: Date
    estimated: bool = False
    note: str | None = None


class Price(Frozen):
    """On-demand price of one node of an instance type, of one region at one date."""

    per_hour: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    region: str | None = None
    as_of: Date
    source: str | None = None


def _known_memory(value: Any, info: ValidationInfo) -> Any:
    return value if value is not None else _known_gpu(info, "gpuMemory").memory


def _known_capability(value: Any, info: ValidationInfo) -> Any:
    return value if value is not None else _known_gpu(info, "computeCapability").compute_capability


def _known_gpu(info: ValidationInfo, wanted: str) -> GpuModel:
    name = info.data.get("gpu_model", "")
    known = gpu_models()
    if name in known:
        return known[name]
    wider = [model for model in known if name and name.casefold() in model.casefold()]
    near = wider or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    nearest = f"; it knows {' and '.join(near)}" if near else ""
    raise ValueError(f"missing, and the catalogue has no {wanted} of a GPU named {name!r}{nearest}")


class InstanceType(Frozen):
    """One kind of node. `gpu_memory` is usable bytes per GPU, `local_disk` the bytes of its own fast disks.

    `gpu_fraction` marks a virtual GPU that is a part of a physical one: its memory is that part, and it needs
    NVIDIA's vGPU driver. `automatic` is false where the planner takes the type only if a spec names it.
    `retired` says since when the cloud no longer offers it. Memory and compute capability of a GPU model
    that the table knows may be left out.
    """

    name: Name
    cloud: str = "custom"
    gpu_model: str
    gpu_count: Annotated[int, Field(ge=1, le=64)]
    gpu_memory: Annotated[Bytes, BeforeValidator(_known_memory)]
    compute_capability: Annotated[float, Field(ge=2, lt=100), BeforeValidator(_known_capability)]
    gpu_fraction: str | None = None
    vcpus: Annotated[int, Field(ge=1)] | None = None
    memory: Bytes | None = None
    local_disk: Bytes | None = None
    price: Price | None = None
    automatic: bool = True
    retired: str | None = None
    source: Address | None = None
    as_of: Date | None = None

    @model_validator(mode="before")
    @classmethod
    def _ask_the_table(cls, data: Any) -> Any:
        """Name what is left out, under its own key, so that its validator looks the GPU up."""
        if not isinstance(data, dict):
            return data
        named = {"gpuMemory": "gpu_memory", "computeCapability": "compute_capability"}
        absent = {alias: None for alias, field in named.items() if alias not in data and field not in data}
        return {**data, **absent}

    @cached_property
    def digest(self) -> str:
        """Changes with every fact of the entry that a plan may rest on."""
        facts = self.model_dump(mode="json", by_alias=True, exclude={"source", "as_of"}, exclude_none=True)
        return digest(facts)


def parse(document: Any) -> list[InstanceType]:
    """Read a document's `instanceTypes` and `families`; a table of GPU models has neither.

    Raises:
        pydantic.ValidationError: an entry is wrong; the paths in it start at the entry.
    """
    return [InstanceType.model_validate(entry) for entry in _entries(document)]


def _entries(document: Mapping[str, Any]) -> Iterator[Any]:
    yield from document.get("instanceTypes", ())
    for family in document.get("families", ()):
        shared = {key: value for key, value in family.items() if key not in ("family", "sizes", "priced")}
        for size in family["sizes"]:
            entry = {"cloud": document["cloud"], **shared, **size}
            if "price" in size:
                entry["price"] = {**document["priced"], **family.get("priced", {}), "perHour": size["price"]}
            yield entry


@cache
def gpu_models() -> dict[str, GpuModel]:
    """Return the package's table of GPU models by name."""
    text = (resources.files("presets") / "gpus" / GPU_MODELS_FILE).read_text("utf-8")
    entries = yaml.load(text, Loader=yaml.CSafeLoader)["gpuModels"]
    return {model.name: model for model in map(GpuModel.model_validate, entries)}
