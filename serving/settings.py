"""The front's settings from its command line; what follows `--` is the engine's own, as the plan made it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from berth import labels
from berth.images import MAX_HELD_BYTES
from serving import sources, standalone
from serving.engine import Command, with_port
from serving.gate import Bounds
from serving.weights import extras
from serving.weights.extras import Extra, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from berth.plans import Task

QUEUE_PER_SLOT = 32
DRAIN_SECONDS = 130.0
"""Of the 150 that the pod is given; the rest is for the engine to end."""


@dataclass(frozen=True)
class Settings:
    """Everything that is decided before the first request."""

    model: Path
    alias: str
    names: frozenset[str]
    """What a request may call the model, in lower case."""
    command: Command
    engine_port: int
    slots: int
    queue: int
    bounds: Bounds
    sha256: str | None = None
    image: str | None = None
    """The image that the model comes from, where that is known."""
    extras: tuple[Extra, ...] = ()
    """LoRA adapters, and at most one projector."""
    host: str = "127.0.0.1"
    port: int = labels.PORT
    metrics_port: int | None = None
    plan: dict[str, Any] | None = None
    api_keys: Path | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    queue_seconds: float = 300.0
    drain_seconds: float = DRAIN_SECONDS
    strict_model: bool = False
    ui: bool = False

    @property
    def takes_images(self) -> bool:
        """Whether the engine has a projector."""
        return any(extra.kind is Kind.PROJECTOR for extra in self.extras)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the front's own arguments."""
    found = argparse.ArgumentParser(
        prog="python -m serving",
        description="Serve a GGUF model over HTTP: KAITO's /chat, OpenAI's and Anthropic's APIs.",
        epilog="What follows `--` is llama-server's command line; without it one is made for this machine.",
    )
    add = found.add_argument
    add("--model", required=True, type=Path, metavar="FILE.gguf", help="the first file of a split model")
    add("--sha256", help="what the file's content must be")
    add(
        "--adapter",
        action="append",
        default=[],
        type=_extra(Kind.ADAPTER),
        metavar="FILE.gguf:BYTES[:SHA256]",
        help="a LoRA adapter of the engine's command line, and what it must be; repeatable",
    )
    add(
        "--mmproj",
        type=_extra(Kind.PROJECTOR),
        metavar="FILE.gguf[:BYTES[:SHA256]]",
        help="the projector with which the model takes images, and what it must be",
    )
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--port", type=int, default=labels.PORT, help="default %(default)s")
    add("--metrics-port", type=int, help="for Prometheus; by default there is none")
    add("--plan", type=Path, metavar="FILE", help="the Workspace's plan, for the model's names and /ui")
    add("--api-keys", type=Path, metavar="DIR", help="a file for each key; none means open to everybody")
    add("--wait-for", action="append", default=[], metavar="HOST:PORT", help="a worker; repeatable")
    own = found.add_argument_group("without a command line of the engine")
    own.add_argument("--parallel", type=_positive, default=4, metavar="SLOTS", help="default %(default)s")
    own.add_argument(
        "--context-size", type=_positive, metavar="TOKENS", help="per slot; default: as trained, to 4096"
    )
    own.add_argument("--alias", help="the model's name in answers; default: the file's")
    own.add_argument(
        "--task", choices=["chat", "completion", "embedding", "rerank"], help="default: by the file"
    )
    own.add_argument("--n-gpu-layers", type=int, default=0, metavar="LAYERS", help="default %(default)s")
    limits = found.add_argument_group("limits")
    bound = limits.add_argument
    bound("--queue", type=int, metavar="REQUESTS", help=f"that may wait; default {QUEUE_PER_SLOT} per slot")
    bound("--queue-seconds", type=float, default=300.0, help="to wait for a slot (default %(default)s)")
    bound("--request-seconds", type=float, default=1800.0, help="for a whole answer (default %(default)s)")
    bound(
        "--stall-seconds", type=float, default=120.0, help="without a token: it hangs (default %(default)s)"
    )
    bound("--drain-seconds", type=float, default=DRAIN_SECONDS, help="after SIGTERM (default %(default)s)")
    bound("--max-body", type=float, default=32.0, metavar="MIB", help="of a request (default %(default)s)")
    bound("--requests-per-minute", type=_positive, help="of a key that names no limit of its own")
    bound("--tokens-per-minute", type=_positive, help="of a key that names no limit of its own")
    add("--strict-model", action="store_true", help="answer 404 to a model's name that is not this one's")
    add("--ui", action="store_true", help="serve a small page to try the model at /ui")
    return found


def read(arguments: Sequence[str]) -> Settings:
    """Read the command line; like argparse, end the process with what is wrong with it."""
    given = list(arguments)
    own, argv = (given, None)
    if "--" in given:
        own, argv = given[: given.index("--")], tuple(given[given.index("--") + 1 :])
    front = parser()
    options = front.parse_args(own)
    plan = _plan(front, options.plan)
    if argv is None:
        try:
            server = standalone.server(
                options.model,
                parallel=options.parallel,
                context_size=options.context_size,
                alias=options.alias,
                task=options.task,
                gpu_layers=options.n_gpu_layers,
                projector=options.mmproj.path if options.mmproj else None,
            )
        except standalone.CannotServe as problem:
            front.error(str(problem))
        # The plan's port is the pod's; on one's own machine another program may have it.
        argv = with_port(server.argv(str(options.model)), standalone.free_port())
    values = _values(argv)
    try:
        slots, engine_port, alias = int(values["--parallel"]), int(values["--port"]), values["--alias"]
    except (KeyError, ValueError):
        front.error("the engine's command line needs --parallel, --port and --alias")
    projector = _projector(front, options.mmproj, values.get("--mmproj"))
    images = sources.images(plan)
    program = _program(argv[0])
    if program is None:
        front.error(f"there is no {argv[0]} on PATH; `make engine` builds one")
    served = (plan or {}).get("server") or {}
    names = {alias, options.model.stem, (plan or {}).get("name"), served.get("model"), served.get("alias")}
    return Settings(
        model=options.model,
        alias=alias,
        names=frozenset(name.lower() for name in names if name),
        command=Command((program, *argv[1:]), _task(argv), tuple(options.wait_for), options.stall_seconds),
        engine_port=engine_port,
        slots=slots,
        queue=QUEUE_PER_SLOT * slots if options.queue is None else options.queue,
        bounds=_bounds(int(options.max_body * 2**20), options.request_seconds),
        sha256=options.sha256,
        image=images.get(options.model),
        extras=tuple(extra.of(images.get(extra.path)) for extra in (*options.adapter, *projector)),
        host=options.host,
        port=options.port,
        metrics_port=options.metrics_port,
        plan=plan,
        api_keys=options.api_keys,
        requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute,
        queue_seconds=options.queue_seconds,
        drain_seconds=options.drain_seconds,
        strict_model=options.strict_model,
        ui=options.ui,
    )


def _bounds(body_bytes: int, request_seconds: float) -> Bounds:
    return Bounds(body_bytes, max(MAX_HELD_BYTES, body_bytes), request_seconds=request_seconds)


def _plan(front: argparse.ArgumentParser, path: Path | None) -> dict[str, Any] | None:
    """Read as plain data: a plan of another version of berth still names the model."""
    if path is None:
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        front.error(f"--plan: {problem}")
    return data if isinstance(data, dict) else None


def _values(argv: Sequence[str]) -> dict[str, str]:
    """Return each flag's next word; for flags without a value that means nothing."""
    return dict(pairwise(argv))


def _task(argv: Sequence[str]) -> Task:
    if "--embeddings" in argv:
        return "embedding"
    if "--reranking" in argv:
        return "rerank"
    return "completion" if "--no-jinja" in argv else "chat"


def _program(name: str) -> str | None:
    built = Path(sys.prefix) / "engine" / "bin"
    return shutil.which(name) or shutil.which(name, path=str(built)) or _own(name)


def _own(name: str) -> str | None:
    folder = os.environ.get("BERTH_ENGINE")
    return shutil.which(name, path=str(Path(folder) / "bin")) if folder else None


def _extra(kind: Kind) -> Callable[[str], Extra]:
    def read(text: str) -> Extra:
        try:
            return extras.parse(kind, text)
        except ValueError as problem:
            raise argparse.ArgumentTypeError(str(problem)) from None

    return read


def _projector(front: argparse.ArgumentParser, told: Extra | None, loaded: str | None) -> list[Extra]:
    """Return the projector that the engine loads; one that nobody told of is looked at as well."""
    if told is None:
        return [] if loaded is None else [Extra(Kind.PROJECTOR, Path(loaded))]
    if loaded is None or Path(loaded).absolute() != told.path.absolute():
        front.error(f"--mmproj: the engine's command line names {loaded or 'none'}, not {told.path}")
    return [told]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
