"""From paths to Workspace documents: what is ours is read, what is not is left alone.

A repository holds other things too: charts, kustomizations, other kinds, rendered output. A file without
the bytes `kaito.sh` is not even parsed, and of the others only the documents that have them. What claims to
be a Workspace and can't be read is a problem, never a traceback.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from berth import labels
from berth.problems import Problem
from berth.spec.texts import code
from generator import folders, kustomize
from generator.documents import Budget, Document, Repeated, UnreadableError, build, compose, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from yaml.nodes import Node

FLEET_FILE = "berth.yaml"
DUPLICATE = "duplicate"
"""The rule of a Workspace that stands in two places."""
LARGEST_FILE = 8 * 1024**2
"""Bytes of a file that is read as a spec."""
LARGEST_SEARCHED = 256 * 1024**2
"""Bytes of a larger file that are searched for something of ours."""

_GROUP = labels.GROUP.encode()
_SEPARATOR = re.compile(r"^(?:---|\.\.\.)(?=\s|$)", re.MULTILINE)
_CLAIM = re.compile(rf"api_?version[\"']?\s*:\s*[\"']?{re.escape(labels.GROUP)}/", re.IGNORECASE)
_KIND = re.compile(r"kind[\"']?\s*:\s*[\"']?workspaces?\b", re.IGNORECASE)
_OTHER_KINDS = frozenset({"InferenceSet", "RAGEngine", "MultiRoleInference", "ModelMirror", "KaitoNodeClass"})
_TEMPLATE = "{{"


@dataclass(frozen=True, slots=True)
class Found:
    """A problem of a file, with its place."""

    problem: Problem
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Source:
    """One file that holds something of ours, or that claims to and can't be read."""

    file: str
    documents: tuple[Document, ...] = ()
    problems: tuple[Found, ...] = ()

    @property
    def document(self) -> Document | None:
        """The first document, for files that hold one."""
        return self.documents[0] if self.documents else None


def load(paths: Sequence[str]) -> list[Source]:
    """Read every Workspace of files, folders and `-`, in the order of the paths and of names within folders.

    Raises:
        folders.UnreadablePathError: a path is not there or can't be read.
    """
    sources = list(_distinct(_sources(paths)))
    return [source for source in sources if source.documents or source.problems]


def load_text(text: bytes, file: str) -> Source:
    """Read the Workspaces of one file's bytes."""
    if _GROUP not in text.lower():
        return _wide(text, file)
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not _claims(text.decode("utf-8", "replace")):
            return Source(file)
        line = text.count(b"\n", 0, error.start) + 1
        return _problem(
            file, f"the file is not UTF-8: byte 0x{text[error.start]:02x}", "save it as UTF-8", line
        )
    documents: list[Document] = []
    problems: list[Found] = []
    budget = Budget()
    for chunk, first_line in chunks(decoded.replace("\r\n", "\n").replace("\r", "\n")):
        if labels.GROUP not in chunk.lower():
            continue
        try:
            found = _documents(chunk, first_line, file, len(documents), budget)
        except UnreadableError as error:
            if budget.left < 0 or (_claims(chunk) and _TEMPLATE not in chunk):
                problem = Problem((), None, error.reason, error.fix, rule="unreadable")
                problems.append(Found(problem, first_line + error.line - 1, error.column))
        else:
            documents += (document for document, _ in found)
            problems += (_repeated(item, first_line) for _, repeats in found for item in repeats)
        if budget.left < 0:
            break
    return Source(file, tuple(documents), tuple(problems))


def find_fleet(path: str) -> Path | None:
    """Return the nearest `berth.yaml` at or above a path, up to the root of its git repository."""
    start = Path.cwd() if path == "-" else Path(path).absolute()
    for folder in (start, *start.parents):
        candidate = folder / FLEET_FILE
        if candidate.is_file():
            return candidate
        if (folder / ".git").exists():
            return None
    return None


def load_fleet(path: Path) -> Source:
    """Read the fleet file as one document.

    Raises:
        folders.UnreadablePathError: it can't be read.
    """
    file, content = str(path), folders.read(path)
    if len(content) > LARGEST_FILE:
        return _problem(file, f"the file has {len(content):,} bytes", f"keep it under {LARGEST_FILE:,}")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return _problem(
            file, f"the file is not UTF-8: byte 0x{content[error.start]:02x}", "save it as UTF-8", line
        )
    found = [(chunk, line) for chunk, line in chunks(text) if has_content(chunk)]
    if len(found) > 1:
        return _problem(file, "the file holds several documents", "keep one", found[1][1])
    chunk, line = found[0] if found else ("", 1)
    try:
        node = compose(chunk)
        data, repeats = build(node) if node is not None else ({}, [])
    except UnreadableError as error:
        return _problem(file, error.reason, error.fix, line + error.line - 1, error.column)
    document = Document(file, 0, data, chunk, line)
    return Source(file, (document,), tuple(_repeated(item, line) for item in repeats))


def _sources(paths: Sequence[str]) -> Iterator[Source]:
    seen: set[Path] = set()
    for path in paths:
        if path == "-":
            yield _read_standard_input()
            continue
        entries = list(folders.walk(Path(path)))
        partial = kustomize.patches(entry.path for entry in entries if entry.problem is None)
        for entry in entries:
            if entry.problem is not None:
                yield Source(folders.shown(entry.path), problems=(Found(entry.problem),))
            elif entry.real not in seen and entry.real not in partial:
                seen.add(entry.real)
                yield _read_file(entry.path, named=len(entries) == 1 and entry.path == Path(path))


def _read_standard_input() -> Source:
    content = sys.stdin.buffer.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        return _problem("-", f"standard input has more than {LARGEST_FILE:,} bytes", "split it")
    return load_text(content, "-")


def _read_file(path: Path, named: bool) -> Source:
    file = folders.shown(path)
    try:
        content = folders.read(path, LARGEST_SEARCHED)
    except folders.UnreadablePathError as error:
        if named:
            raise
        return Source(file, problems=(Found(folders.unreadable("the file", str(error).rpartition(": ")[2])),))
    if len(content) <= LARGEST_FILE:
        return load_text(content, file)
    if re.search(rb"kaito\.sh/v", content) is None:
        return Source(file)
    size = f"{path.stat().st_size / 1024**2:.1f} MiB"
    most = f"{LARGEST_FILE // 1024**2} MiB"
    return _problem(file, f"the file has {size}; at most {most} are read", "split it into several files")


def _wide(text: bytes, file: str) -> Source:
    """Kubernetes' YAML is UTF-8; a spec in UTF-16 is told so instead of being overlooked."""
    folded = text.lower()
    for encoding in ("utf-16-le", "utf-16-be"):
        if labels.GROUP.encode(encoding) in folded:
            return _problem(file, "the file is UTF-16", "save it as UTF-8")
    return Source(file)


def chunks(text: str) -> Iterator[tuple[str, int]]:
    """Split a stream into documents with the line that each starts in; markers become blanks."""
    start, line, blanks = 0, 1, ""
    for separator in _SEPARATOR.finditer(text):
        yield blanks + text[start : separator.start()], line
        line += text.count("\n", start, separator.start())
        start, blanks = separator.end(), "   "
    yield blanks + text[start:], line


def has_content(chunk: str) -> bool:
    """Whether there is more in a document than comments and directives."""
    return any(line.strip() and not line.lstrip().startswith(("#", "%")) for line in chunk.splitlines())


def _documents(
    chunk: str, first_line: int, file: str, index: int, budget: Budget
) -> list[tuple[Document, list[Repeated]]]:
    data, repeats, node = _data(chunk, budget)
    return [
        (Document(file, index + offset, item, chunk, first_line, prefix, node), _below(repeats, prefix))
        for offset, (item, prefix) in enumerate(_ours(data))
    ]


def _data(chunk: str, budget: Budget) -> tuple[Any, list[Repeated], Node | None]:
    try:
        node = compose(chunk, budget)
    except UnreadableError:
        if not chunk.lstrip().startswith("{") or _TEMPLATE in chunk:
            raise
        return parse_json(chunk, budget), [], None
    return (None, [], None) if node is None else (*build(node, budget), node)


def _ours(
    data: Any, prefix: tuple[str | int, ...] = ()
) -> Iterator[tuple[dict[str, Any], tuple[str | int, ...]]]:
    if not isinstance(data, dict):
        return
    kind, items = data.get("kind"), data.get("items")
    if isinstance(items, list) and isinstance(kind, str) and kind.endswith("List"):
        for index, item in enumerate(items):
            yield from _ours(item, (*prefix, "items", index))
    elif _is_ours(data):
        yield data, prefix


def _is_ours(data: dict[str, Any]) -> bool:
    version, kind = data.get("apiVersion", data.get("apiversion")), data.get("kind", data.get("Kind"))
    if not isinstance(version, str) or not version.lower().startswith(f"{labels.GROUP}/"):
        return False
    if isinstance(kind, str) and kind.lower().rstrip("s") != labels.KIND.lower():
        return kind not in _OTHER_KINDS and "resource" in data and "inference" in data
    name = (data.get("metadata") or {}).get("name") if isinstance(data.get("metadata"), dict) else None
    return not (isinstance(name, str) and _TEMPLATE in name)


def _below(repeats: Iterable[Repeated], prefix: tuple[str | int, ...]) -> list[Repeated]:
    depth = len(prefix)
    return [replace(item, path=item.path[depth:]) for item in repeats if item.path[:depth] == prefix]


def _distinct(sources: Iterable[Source]) -> Iterator[Source]:
    """Warn of a Workspace that stands in two places, at the second one.

    Folders of several clusters may well hold the same name; only what is rendered together must not.
    """
    first: dict[tuple[str | None, str], Document] = {}
    for source in sources:
        found: list[Found] = []
        for document in source.documents:
            whose = identity(document)
            if whose is not None and (other := first.setdefault(whose, document)) is not document:
                found.append(_duplicate(document, other, *whose))
        yield replace(source, problems=(*source.problems, *found)) if found else source


def identity(document: Document) -> tuple[str | None, str] | None:
    """Return namespace and name of a Workspace; None where they are no texts."""
    meta = document.data.get("metadata")
    name, namespace = (meta.get("name"), meta.get("namespace")) if isinstance(meta, dict) else (None, None)
    return (namespace, name) if isinstance(name, str) and isinstance(namespace, str | None) else None


def _duplicate(document: Document, other: Document, namespace: str | None, name: str) -> Found:
    where = f" in namespace {code(namespace)}" if namespace else ""
    line, _ = other.position(("metadata", "name"))
    reason = f"the Workspace {code(name)}{where} already stands in {other.file}:{line}"
    fix = "remove one, give it another name, or render the two apart"
    problem = Problem(("metadata", "name"), name, reason, fix, "warning", rule=DUPLICATE)
    return Found(problem, *document.position(("metadata", "name")))


def _repeated(item: Repeated, first_line: int) -> Found:
    line = first_line + item.first_line - 1
    reason = f"the key {code(str(item.path[-1]))} stands twice; the first is in line {line}"
    problem = Problem(item.path, None, reason, "keep one of them, with what both hold", rule="duplicate-key")
    return Found(problem, first_line + item.line - 1, item.column)


def _claims(text: str) -> bool:
    return _CLAIM.search(text) is not None and _KIND.search(text) is not None


def _problem(file: str, reason: str, fix: str, line: int = 1, column: int = 1) -> Source:
    return Source(file, problems=(Found(Problem((), None, reason, fix, rule="unreadable"), line, column),))
