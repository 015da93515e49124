"""The containers of a pod that berth rendered, against the copy of the plan that it carries.

What a plan decides is compared whatever berth's version: GPUs, the engine's flags, the file that it loads,
and variables that would set flags behind its back. Command and image change between versions without a new
plan, so they are compared with what the workload says that was rendered; pods carry no such note.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth import argv, labels
from berth.flags import OWNED_FLAGS
from berth.plans import Server
from berth.problems import Problem
from kube.objects import items, mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from berth.problems import Path

AGAIN = "change the Workspace in git and run `berth render`"
_SERVER, _WORKER = "server", "worker"
_NOT_COMPARED = frozenset({"--model", "--rpc"})
"""The path is where the weights are mounted, and the workers' names are the cluster's."""
_ENGINES_VARIABLES = ("LLAMA_ARG_", "GGML_")
"""Prefixes of variables with which the engine's flags and its memory can be set too."""


def problems(
    pod: Mapping[str, Any], place: Path, copy: Mapping[str, Any], rendered: Mapping[str, Any] | None = None
) -> Iterable[Problem]:
    """Compare a pod's containers with the copy of the plan.

    Args:
        pod: the pod's spec.
        place: where it stands.
        copy: of the plan.
        rendered: command and image of each container as they were rendered, where that is known.
    """
    named = {
        str(container.get("name")): (index, container)
        for index, container in enumerate(items(pod.get("containers")))
        if isinstance(container, dict)
    }
    if _SERVER not in named and _WORKER not in named:
        reason = "no container named `server` or `worker` is left"
        yield Problem((*place, "containers"), None, reason, AGAIN, rule="no-server")
        return
    name = _SERVER if _SERVER in named else _WORKER
    index, container = named[name]
    here = (*place, "containers", index)
    yield from _gpu_problems(container, here, copy)
    yield from _other_gpus(pod, place, name)
    yield from _environment_problems(container, here)
    yield from _rendered_problems(container, here, mapping(mapping(rendered).get(name)))
    if name == _SERVER:
        yield from _flag_problems(container, here, copy)
        yield from _weights_problems(container, here, copy)


def _gpu_problems(container: Mapping[str, Any], place: Path, copy: Mapping[str, Any]) -> Iterable[Problem]:
    gpus, nodes = copy.get("gpusPerReplica"), copy.get("nodesPerReplica")
    if not isinstance(gpus, int) or not isinstance(nodes, int) or nodes < 1:
        return
    wanted = gpus // nodes
    limits = mapping(mapping(container.get("resources")).get("limits"))
    given = limits.get(labels.GPU_RESOURCE, "0")
    if str(given) != str(wanted):
        reason = f"{given} GPUs are asked for, and the plan needs {wanted} in each pod"
        yield Problem((*place, "resources", "limits", labels.GPU_RESOURCE), given, reason, AGAIN,
                      rule="gpus")  # fmt: skip


def _other_gpus(pod: Mapping[str, Any], place: Path, name: str) -> Iterable[Problem]:
    """Only the engine's container takes GPUs in a plan."""
    for group in ("initContainers", "containers"):
        for index, member in enumerate(items(pod.get(group))):
            limits = mapping(mapping(mapping(member).get("resources")).get("limits"))
            given = limits.get(labels.GPU_RESOURCE, "0")
            if str(given) != "0" and mapping(member).get("name") != name:
                path = (*place, group, index, "resources", "limits", labels.GPU_RESOURCE)
                reason = f"{given} GPUs are asked for beside the engine's, and the plan has none for them"
                yield Problem(path, given, reason, AGAIN, rule="gpus")


def _flag_problems(container: Mapping[str, Any], place: Path, copy: Mapping[str, Any]) -> Iterable[Problem]:
    try:
        server = Server.model_validate(copy.get("server"))
    except ValueError:
        reason = "the plan was made by another version of berth, so the engine's flags are not compared"
        yield Problem(place, None, reason, "run `berth install` again", "warning", "other-version")
        return
    words = [str(word) for word in items(container.get("args"))]
    here = (*place, "args")
    if "llama-server" not in words:
        yield Problem(here, None, "the engine's command line is gone", AGAIN, rule="flags")
        return
    start = words.index("llama-server") + 1
    wanted = _flags(argv.llama_server(argv.as_written(server), "model")[1:])
    given = _flags(words[start:])
    for flag, value in wanted.items():
        if flag in _NOT_COMPARED or given.get(flag, _GONE) == value:
            continue
        told = "is missing" if flag not in given else f"is {' '.join(given[flag]) or 'given without a value'}"
        planned = f", and the plan has {' '.join(value)}" if value else ""
        shown = " ".join(given[flag]) if flag in given else None
        yield Problem(here, shown, f"{flag} {told}{planned}", AGAIN, rule="flags")
    for flag in given:
        if flag in OWNED_FLAGS and flag not in wanted and flag not in _NOT_COMPARED:
            yield Problem(here, flag, f"{flag} is not in the plan", OWNED_FLAGS[flag], rule="flags")


_GONE = ("\0",)


def _flags(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The last value of each flag, as the engine takes it."""
    found: dict[str, tuple[str, ...]] = {}
    current: str | None = None
    for word in words:
        if word.startswith("-") and not word.lstrip("-.").isdigit():
            current, _, value = word.partition("=")
            found[current] = (value,) if value else ()
        elif current is not None:
            found[current] = (*found[current], word)
    return found


def _environment_problems(container: Mapping[str, Any], place: Path) -> Iterable[Problem]:
    """No plan sets the engine by variables, so whoever does goes round it."""
    for index, variable in enumerate(items(container.get("env"))):
        name = str(mapping(variable).get("name"))
        if name.startswith(_ENGINES_VARIABLES):
            reason = f"the variable {name} sets the engine behind the plan's back"
            fix = "remove it; `inference.llamacpp.extraArgs` takes the flags that the plan does not own"
            yield Problem((*place, "env", index, "name"), name, reason, fix, rule="environment")
    if items(container.get("envFrom")):
        reason = "variables from elsewhere could set the engine behind the plan's back"
        yield Problem((*place, "envFrom"), None, reason, "name each in `env`", "warning", "environment")


def _rendered_problems(
    container: Mapping[str, Any], place: Path, rendered: Mapping[str, Any]
) -> Iterable[Problem]:
    """A mirror may stand in for a registry, but not another image for the rendered one."""
    wanted, given = rendered.get("command"), container.get("command")
    if isinstance(wanted, list) and given != wanted:
        told = "is gone" if not given else f"is {' '.join(map(str, items(given)))}"
        reason = f"the command {told}, and berth rendered {' '.join(map(str, wanted))}"
        yield Problem((*place, "command"), given, reason, AGAIN, rule="command")
    image, mine = rendered.get("image"), container.get("image")
    if isinstance(image, str) and not (isinstance(mine, str) and _same_image(image, mine)):
        reason = f"the image is {mine}, and berth rendered {image}; only its registry and path may differ"
        yield Problem((*place, "image"), mine, reason, AGAIN, rule="image")


def _same_image(one: str, other: str) -> bool:
    """Whether two references name one image, wherever it is pulled from; a digest may stand in for a tag."""
    (name, tag, digest), (own_name, own_tag, own_digest) = _parts(one), _parts(other)
    if name != own_name or (digest and own_digest and digest != own_digest):
        return False
    return tag == own_tag or bool((digest or own_digest) and not (tag and own_tag))


def _parts(image: str) -> tuple[str, str, str]:
    """Name without registry and path, tag and digest."""
    rest, _, digest = image.partition("@")
    name, _, tag = rest.rpartition("/")[2].partition(":")
    return name, tag, digest


def _weights_problems(
    container: Mapping[str, Any], place: Path, copy: Mapping[str, Any]
) -> Iterable[Problem]:
    """Front and engine load the plan's file, and the front checks its content where a digest is known."""
    weights = mapping(copy.get("weights"))
    file = weights.get("file")
    if not isinstance(file, str):
        return
    words = [str(word) for word in items(container.get("args"))]
    here = (*place, "args")
    front = _flags(words[: words.index("llama-server")] if "llama-server" in words else [])
    engine = _flags(words[words.index("llama-server") + 1 :] if "llama-server" in words else [])
    for whose, given in (("front", front), ("engine", engine)):
        path = " ".join(given.get("--model", ()))
        if path != file and not path.endswith(f"/{file.lstrip('/')}"):
            told = f"is {path}" if path else "is missing"
            reason = f"the {whose}'s --model {told}, and the plan's file is {file}"
            yield Problem(here, path or None, reason, AGAIN, rule="weights")
    wanted = weights.get("sha256")
    if isinstance(wanted, str) and front.get("--sha256") != (wanted,):
        reason = "the front's --sha256 is not the plan's, so other weights could be loaded"
        yield Problem(here, None, reason, AGAIN, rule="weights")
    projector = mapping(mapping(copy.get("server")).get("mmproj"))
    wanted = ":".join(str(projector[key]) for key in ("size", "sha256") if key in projector)
    if projector and not " ".join(front.get("--mmproj", ())).endswith(f"/{projector.get('file')}:{wanted}"):
        reason = "the front's --mmproj is not the plan's, so another projector could be loaded"
        yield Problem(here, None, reason, AGAIN, rule="weights")
