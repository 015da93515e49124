"""From paths, standard input or a cluster to single objects, each with the text that it stands in.

A file without the bytes `kaito.sh` has nothing to bring over and is not looked at. In the others every
object is looked at, since what is not brought over has to be named.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from berth import labels
from generator import folders, kustomize, specs
from generator.documents import Budget, UnreadableError, build, compose, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from generator.kubectl import Kubectl

KINDS = ("workspaces", "inferencesets", "ragengines", "multiroleinferences")
"""Of the group `kaito.sh`, as kubectl names them; a cluster serves some of them."""
CLUSTER = "cluster"


@dataclass(frozen=True)
class Piece:
    """One object of a source; `text` is its own text there, None where it has none of its own."""

    source: str
    data: Any
    text: str | None = None
    alone: bool = False
    """The text is the whole file."""


@dataclass(frozen=True)
class Unread:
    """A part of a source that is no object that can be read; it stays where it is."""

    source: str
    reason: str
    fix: str


def from_paths(paths: Sequence[str]) -> Iterator[Piece | Unread]:
    """Yield every object of the files that have to do with KAITO.

    Raises:
        folders.UnreadablePathError: a path is not there or can't be read.
    """
    seen: set[Path] = set()
    for path in paths:
        if path == "-":
            yield from _from_bytes(sys.stdin.buffer.read(specs.LARGEST_FILE + 1), "-")
            continue
        entries = list(folders.walk(Path(path)))
        partial = kustomize.patches(entry.path for entry in entries if entry.problem is None)
        for entry in entries:
            file = folders.shown(entry.path)
            if entry.problem is not None:
                yield Unread(file, entry.problem.reason, entry.problem.fix)
            elif entry.real not in seen:
                seen.add(entry.real)
                content = folders.read(entry.path, specs.LARGEST_FILE + 1)
                if entry.real in partial and labels.GROUP.encode() in content:
                    reason = "it is a patch of a kustomization, so only a part of a Workspace"
                    yield Unread(
                        file, reason, "build the kustomization: kustomize build DIR | berth import -"
                    )
                else:
                    yield from _from_bytes(content, file)


def from_cluster(kubectl: Kubectl) -> Iterator[Piece]:
    """Yield KAITO's objects of a cluster.

    Raises:
        KubectlError: the cluster could not be asked.
    """
    served = kubectl("api-resources", f"--api-group={labels.GROUP}", "--output", "name").split()
    wanted = [name for name in served if name.partition(".")[0] in KINDS]
    for name in sorted(wanted, key=lambda name: KINDS.index(name.partition(".")[0])):
        for thing in kubectl.items(name, "--all-namespaces"):
            yield Piece(CLUSTER, thing)


def from_text(text: str, source: str) -> Iterator[Piece | Unread]:
    """Yield the objects of one file's text."""
    chunks = [chunk for chunk, _ in specs.chunks(text) if specs.has_content(chunk)]
    budget = Budget()
    for chunk in chunks:
        try:
            data = _data(chunk, budget)
        except UnreadableError as error:
            template = "{{" in chunk
            reason = "it is a template and no YAML yet" if template else error.reason
            fix = "render it first: helm template CHART | berth import -" if template else error.fix
            yield Unread(source, reason, fix)
            if budget.left < 0:
                return
            continue
        flat = list(_flat(data))
        whole = len(flat) == 1 and flat[0] is data
        for thing in flat:
            alone = whole and len(chunks) == 1
            yield Piece(source, thing, text if alone else chunk if whole else None, alone)


def _from_bytes(content: bytes, source: str) -> Iterator[Piece | Unread]:
    if labels.GROUP.encode() not in content.lower():
        return
    if len(content) > specs.LARGEST_FILE:
        yield Unread(
            source, f"it has more than {specs.LARGEST_FILE // 1024**2} MiB", "split it into several files"
        )
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield Unread(source, f"it is not UTF-8: byte 0x{content[error.start]:02x}", "save it as UTF-8")
        return
    yield from from_text(text.replace("\r\n", "\n").replace("\r", "\n"), source)


def _data(chunk: str, budget: Budget) -> Any:
    try:
        node = compose(chunk, budget)
    except UnreadableError:
        if not chunk.lstrip().startswith("{"):
            raise
        return parse_json(chunk, budget)
    return None if node is None else build(node, budget)[0]


def _flat(data: Any) -> Iterator[Any]:
    """Lists are unpacked, as kubectl writes them."""
    if (
        isinstance(data, dict)
        and isinstance(data.get("items"), list)
        and str(data.get("kind")).endswith("List")
    ):
        for item in data["items"]:
            yield from _flat(item)
    else:
        yield data


def last_applied(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return what somebody applied with kubectl, as the cluster keeps it; empty where it does not."""
    annotations = metadata.get("annotations")
    name = "kubectl.kubernetes.io/last-applied-configuration"
    text = annotations.get(name) if isinstance(annotations, dict) else None
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
