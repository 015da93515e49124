"""The catalogue: presets and instance types by name, from the package's own data and the user's fleet file.

The data stands in `presets/`, read as package resources. libyaml takes half a millisecond a model, and most
commands name one or two, so a file of models is parsed when one of its names is asked for; the names
themselves are found by their fixed place in the text, which a test keeps true.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from pydantic import ValidationError

from berth import instances, models
from berth.entries import InvalidEntry, problems_of
from berth.errors import BerthError, UnknownInstanceType, UnknownModel, UnknownQuantization
from berth.plans import Frozen, digest
from berth.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from berth.instances import InstanceType
    from berth.models import Model
    from berth.problems import Path

NEAREST = 4
"""How many names an error proposes."""
UNSUPPORTED = "unsupported.yaml"
_NAME = re.compile(r"^- name: (\S+)$", re.MULTILINE)
_ALIASES = re.compile(r"^  aliases: \[(.*)\]$", re.MULTILINE)


class Shelf:
    """One file of models, parsed when a model of it is asked for."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Each model's name and aliases, as the text has them."""
        found = []
        for block in re.split(r"^(?=- name: )", self.text, flags=re.MULTILINE)[1:]:
            name = _NAME.match(block)
            aliases = _ALIASES.search(block)
            listed = aliases[1].split(",") if aliases else ()
            if name is not None:
                found.append((name[1], *(alias.strip().strip("\"'") for alias in listed if alias.strip())))
        return tuple(found)

    @cached_property
    def entries(self) -> dict[str, Any]:
        """The data of each model by its name."""
        data = yaml.load(self.text, Loader=yaml.CSafeLoader)
        return {entry["name"]: entry for entry in data["models"]}


class _Place(NamedTuple):
    """A name as it is spelled, the model that it means, and the file of that model."""

    spelled: str
    model: str
    shelf: Shelf | None


class Unsupported(Frozen):
    """A preset of KAITO that cannot be served here, and why."""

    names: tuple[str, ...]
    reason: str
    instead: str = "another preset"


@dataclass(frozen=True)
class Catalog:
    """Models and instance types. Names are found in any case; a model also by its aliases."""

    own_models: Mapping[str, Model] = field(default_factory=dict)
    """Models given as such, which go before those of the shelves."""
    shelves: tuple[Shelf, ...] = ()
    instance_types: Mapping[str, InstanceType] = field(default_factory=dict)
    unsupported: Mapping[str, Unsupported] = field(default_factory=dict)
    """Presets of KAITO that cannot be served, by name in lower case."""
    _made: dict[str, Model] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def _places(self) -> dict[str, _Place]:
        """Where each name and alias, in lower case, leads to."""
        places: dict[str, _Place] = {}
        for shelf in self.shelves:
            for name, *aliases in shelf.names:
                for known in (name, *aliases):
                    places.setdefault(known.casefold(), _Place(known, name, shelf))
        for model in self.own_models.values():
            for known in model.names:
                places[known.casefold()] = _Place(known, model.name, None)
        return places

    @cached_property
    def _instance_names(self) -> dict[str, str]:
        return {name.casefold(): name for name in self.instance_types}

    @cached_property
    def models(self) -> tuple[Model, ...]:
        """Every model, by name."""
        return tuple(self.model(name) for name in self.model_names)

    @cached_property
    def model_names(self) -> tuple[str, ...]:
        """The name of every model, in order, without reading the models."""
        return tuple(sorted({place.model for place in self._places.values()}))

    def model(self, name: str) -> Model:
        """Return the model of this name or alias.

        Raises:
            UnknownModel: there is none; the text names the nearest, or why the engine cannot run it.
        """
        place = self._places.get(name.casefold())
        if place is None:
            raise UnknownModel(self._unknown_model(name))
        if place.shelf is None or place.model in self.own_models:
            return self.own_models[place.model]
        found = self._made.get(place.model)
        if found is None:
            found = models.parse(place.shelf.entries[place.model], ("models", place.model))
            self._made[place.model] = found
        return found

    def instance_type(self, name: str) -> InstanceType:
        """Return the instance type of this name.

        Raises:
            UnknownInstanceType: there is none; the text names the nearest.
        """
        known = self._instance_names.get(name.casefold())
        if known is None:
            nearest = _nearest(name, self._instance_names)
            listed = [self._instance_names[near] for near in nearest]
            raise UnknownInstanceType(
                f"no instance type is named {name!r}; {_proposal(listed, 'berth skus')}"
            )
        return self.instance_types[known]

    def search(self, text: str) -> tuple[Model, ...]:
        """Return the models whose names, title, family, task, licence or architecture hold every word."""
        words = text.casefold().split()
        return tuple(model for model in self.models if all(word in _searchable(model) for word in words))

    def extended(
        self,
        models: Sequence[Any] = (),
        instance_types: Sequence[Any] = (),
        prices: Mapping[str, Any] | None = None,
    ) -> Catalog:
        """Return the catalogue with the entries of a fleet file, which go before its own of the same name.

        Args:
            models: entries shaped like those in `presets/models`.
            instance_types: entries shaped like those in `presets/gpus`.
            prices: an instance type's name to its price.

        Raises:
            InvalidEntry: with every problem and its path in the fleet file.
        """
        if not (models or instance_types or prices):
            return self
        problems: list[Problem] = []
        own = {**self.own_models, **self._read_models(models, problems)}
        types = {**self.instance_types, **_read_instance_types(instance_types, problems)}
        canonical = {name.casefold(): name for name in types}
        for name, price in (prices or {}).items():
            path = ("prices", name)
            known = canonical.get(name.casefold())
            if known is None:
                reason = f"no instance type is named {name!r}"
                near = [canonical[found] for found in _nearest(name, canonical)]
                problems.append(Problem(path, None, reason, _proposal(near, "berth skus"), rule="price"))
                continue
            try:
                types[known] = replace_price(types[known], price)
            except ValidationError as error:
                problems += problems_of(error, path, "price")
        if problems:
            raise InvalidEntry(problems)
        return replace(self, own_models=own, instance_types=types, _made=self._made)

    def digest(
        self,
        model: Model | None = None,
        instance_types: Iterable[InstanceType] = (),
        *,
        images: bool = False,
    ) -> str:
        """Return the digest of the entries that a plan used, with the projector's where it takes `images`."""
        entries = tuple((instance.name, instance.digest) for instance in instance_types)
        projector = model.projector.digest if images and model and model.projector else None
        return _digest(model.digest if model else None, entries, projector)

    def _read_models(self, documents: Sequence[Any], problems: list[Problem]) -> dict[str, Model]:
        found: dict[str, Model] = {}
        for index, document in enumerate(documents):
            path: Path = ("models", index)
            try:
                model = models.parse(document, path)
            except InvalidEntry as error:
                problems += error.problems
                continue
            problems += _unbuildable(model, path)
            if model.name in found:
                reason = f"two models are named {model.name}"
                problems.append(Problem((*path, "name"), model.name, reason, rule="model"))
            for alias in model.aliases:
                if alias != model.name and alias in self.model_names:
                    reason = f"a preset is named {alias}, so it cannot be an alias of {model.name}"
                    problems.append(Problem((*path, "aliases"), alias, reason, rule="model"))
            found[model.name] = model
        return found

    def _unknown_model(self, name: str) -> str:
        known = self.unsupported.get(name.casefold())
        if known is not None:
            return f"KAITO's preset {name!r} cannot be served here: {known.reason}; take {known.instead}"
        listed = list(dict.fromkeys(self._places[near].spelled for near in _nearest(name, self._places)))
        return f"no preset is named {name!r}; {_proposal(listed, 'berth presets')}"


@lru_cache(maxsize=4_096)
def _digest(
    model: str | None, instance_types: tuple[tuple[str, str], ...], projector: str | None = None
) -> str:
    used = {"model": model, "instanceTypes": dict(instance_types)}
    return digest(used if projector is None else {**used, "projector": projector})


def replace_price(instance: InstanceType, price: Any) -> InstanceType:
    """Return the instance type at another price."""
    return instance.model_validate({**instance.model_dump(exclude_none=True), "price": price})


@cache
def load() -> Catalog:
    """Return the package's own catalogue."""
    folder = resources.files("presets")
    shelves = []
    unsupported: dict[str, Unsupported] = {}
    for resource in sorted((folder / "models").iterdir(), key=lambda found: found.name):
        if resource.name == UNSUPPORTED:
            data = yaml.load(resource.read_text("utf-8"), Loader=yaml.CSafeLoader)
            for entry in map(Unsupported.model_validate, data["unsupported"]):
                unsupported.update({name.casefold(): entry for name in entry.names})
        elif resource.name.endswith(".yaml"):
            shelves.append(Shelf(resource.read_text("utf-8")))
    types: dict[str, InstanceType] = {}
    for resource in sorted((folder / "gpus").iterdir(), key=lambda found: found.name):
        if resource.name.endswith(".yaml"):
            data = yaml.load(resource.read_text("utf-8"), Loader=yaml.CSafeLoader)
            types.update({instance.name: instance for instance in instances.parse(data)})
    return Catalog(shelves=tuple(shelves), instance_types=types, unsupported=unsupported)


def _unbuildable(model: Model, path: Path) -> list[Problem]:
    """What keeps the model's tensors from being known, told when the fleet file is read."""
    try:
        for quantization in model.quantizations:
            model.layout(quantization)
    except UnknownQuantization as error:
        return [Problem((*path, "quantizations"), None, str(error), rule="model")]
    except BerthError as error:
        return [Problem((*path, "metadata"), None, str(error), rule="model")]
    return list(_blind(model, (*path, "projector", "metadata")))


def _blind(model: Model, path: Path) -> Iterator[Problem]:
    """What keeps the model from taking images with the projector that its entry names."""
    if model.projector is None:
        return
    from berth.engine import projectors

    try:
        numbers = projectors.parse(model.projector.metadata).numbers
    except BerthError as error:
        yield Problem(path, None, str(error), rule="model")
        return
    text = model.layout().hyperparameters
    made, taken = numbers.text * (1 + len(numbers.deep_layers)), text.embedding * (1 + text.deepstack_layers)
    if made != taken and numbers.kind not in _NO_WIDTH:
        reason = f"it makes tokens of {made} numbers, and {model.name} takes {taken}: it is another model's"
        yield Problem(path, None, reason, rule="model")


_NO_WIDTH = frozenset({"mlp"})
"""Projectors whose metadata may hold the encoder's own width in the text model's place."""


def _read_instance_types(documents: Sequence[Any], problems: list[Problem]) -> dict[str, InstanceType]:
    found: dict[str, InstanceType] = {}
    for index, document in enumerate(documents):
        try:
            (instance,) = instances.parse({"instanceTypes": [document]})
        except ValidationError as error:
            problems += problems_of(error, ("instanceTypes", index), "instance-type")
            continue
        found[instance.name] = instance
    return found


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    wanted = name.casefold()
    candidates = list(known)
    close = difflib.get_close_matches(wanted, candidates, n=NEAREST, cutoff=0.6)
    inside = sorted(
        found for found in candidates if len(wanted) > 2 and wanted in found and found not in close
    )
    return (close + inside)[:NEAREST]


def _proposal(names: Sequence[str], command: str) -> str:
    if not names:
        return f"`{command}` lists them"
    verb = "the nearest is" if len(names) == 1 else "the nearest are"
    return f"{verb} {', '.join(names)}"


def _searchable(model: Model) -> str:
    parts = (*model.names, model.title, model.family, model.task, model.license, model.architecture)
    return " ".join(parts).casefold()
