"""The engine's process: started with the exact command line, watched, and started again when it ends.

It counts as ready only when it has produced a token. Three ends in ten minutes end the front as well, so that
Kubernetes sees what happens, backs off and can move the pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from serving import devices, watchdog
from serving.group import Group
from serving.output import Output
from serving.upstream import EngineGone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from berth.plans import Task
    from serving.upstream import Upstream

log = logging.getLogger(__name__)

State = Literal[
    "checking weights",
    "waiting for workers",
    "starting",
    "loading",
    "warming up",
    "ready",
    "restarting",
    "stopped",
]

MAX_ENDS = 3
WINDOW_SECONDS = 600.0
_STOP_SECONDS = 10.0
_LONGEST_BACKOFF_SECONDS = 30.0
_POLL_SECONDS = 0.2
_PROGRESS_STEP = 0.1

_FIRST_TOKEN: dict[Task, tuple[str, dict[str, object]]] = {
    "chat": ("/completion", {"prompt": "Hello", "n_predict": 1, "ignore_eos": True, "cache_prompt": False}),
    "completion": (
        "/completion",
        {"prompt": "Hello", "n_predict": 1, "ignore_eos": True, "cache_prompt": False},
    ),
    "embedding": ("/embedding", {"content": "Hello"}),
    "rerank": ("/rerank", {"query": "Hello", "documents": ["Hello"]}),
}


class EngineFailed(Exception):
    """The engine ended too often to be started again."""


@dataclass(frozen=True)
class Command:
    """What is started, and what has to be there first."""

    argv: tuple[str, ...]
    task: Task = "chat"
    wait_for: tuple[str, ...] = ()
    """Workers as `host:port`."""
    stall_seconds: float = 120.0


class Engine:
    """Runs the engine for as long as the front lives; `upstream` is where it answers."""

    def __init__(
        self,
        command: Command,
        upstream: Upstream,
        *,
        on_ready: Callable[[], None] = lambda: None,
        on_down: Callable[[], None] = lambda: None,
        backoff_seconds: float = 1.0,
    ) -> None:
        self.command, self.upstream = command, upstream
        self.state: State = "starting"
        self.weights = "Unchecked"
        """What is known of their content: `Pinned` or `Unpinned`, once they were looked at."""
        self.projector: str | None = None
        """The same of the projector; None where there is none, or it wasn't looked at yet."""
        self.restarts = 0
        self.ever_ready = False
        self.output = Output()
        self._on_ready, self._on_down = on_ready, on_down
        self._backoff_seconds = backoff_seconds
        self._ends: list[float] = []
        self._process: asyncio.subprocess.Process | None = None
        self.stopping = False
        """Whether `stop` was called."""

    @property
    def ready(self) -> bool:
        """Whether requests can be served now."""
        return self.state == "ready"

    @property
    def pid(self) -> int | None:
        """The process's id, while there is one."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def run(self) -> None:
        """Keep the engine running until `stop`.

        Raises:
            EngineFailed: it ended three times in ten minutes.
        """
        async with Group(self.command.wait_for) as group:
            await self._keep_running(group)
        self.state = "stopped"

    async def _keep_running(self, group: Group) -> None:
        while not self.stopping:
            if self.command.wait_for:
                self.state, self.output = "waiting for workers", Output()
                await group.ready()
            reason = await self._once(group)
            if self.stopping:
                break
            self.upstream.fail(reason)
            log.error("engine: %s", reason)
            now = time.monotonic()
            self._ends = [at for at in self._ends if now - at < WINDOW_SECONDS] + [now]
            if len(self._ends) >= MAX_ENDS:
                tail = "".join(f"\n  {line}" for line in self.output.last)
                raise EngineFailed(
                    f"{reason}; {MAX_ENDS} ends in {WINDOW_SECONDS:g} seconds are enough; it said last:{tail}"
                )
            self.state = "restarting"
            self.restarts += 1
            pause = min(self._backoff_seconds * 2 ** (len(self._ends) - 1), _LONGEST_BACKOFF_SECONDS)
            log.warning("engine: started again in %g s", pause)
            await asyncio.sleep(pause)

    async def stop(self) -> None:
        """End the process: kindly, then for good."""
        self.stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            _kill(process)
            await process.wait()

    async def _once(self, group: Group) -> str:
        """Start the process and return why it ended."""
        self.state, self.output = "starting", Output()
        try:
            if problem := await devices.missing(self.command.argv):
                return problem
            log.info("engine: starting %s", " ".join(self.command.argv))
            # Its own session: a Ctrl-C in a terminal is for the front, which lets streams finish first.
            process = await asyncio.create_subprocess_exec(
                *self.command.argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=environment(),
                start_new_session=True,
            )
        except OSError as refused:
            return f"it could not be started: {refused}"
        self._process = process
        reading = asyncio.create_task(self._read(process))
        serving = asyncio.create_task(self._serve())
        ending = asyncio.create_task(process.wait())
        losing = asyncio.create_task(group.broken() if self.command.wait_for else asyncio.Event().wait())
        try:
            await asyncio.wait({serving, ending, losing}, return_when=asyncio.FIRST_COMPLETED)
            self.state = "restarting"
            self._on_down()  # first of all: whoever comes now waits for the next one
            if ending.done():
                return f"it ended {_how(process.returncode or 0)}"
            reason = str((serving if serving.done() else losing).result())
            self.upstream.fail(reason)  # before the process ends, so that its clients learn why
            return reason
        finally:
            _kill(process)
            serving.cancel()
            losing.cancel()
            await asyncio.wait({serving, ending, losing})
            await asyncio.wait({reading}, timeout=1.0)
            reading.cancel()

    async def _serve(self) -> str:
        """Bring the engine to its first token, then watch it; return what is wrong with it."""
        started = time.monotonic()
        self.state = "loading"
        shown = 0.0
        while not await self._healthy():
            if self.output.progress >= shown + _PROGRESS_STEP:
                shown = self.output.progress
                log.info("engine: %.0f %% of the weights are loaded", shown * 100)
            await asyncio.sleep(_POLL_SECONDS)
        self.state = "warming up"
        target, data = _FIRST_TOKEN[self.command.task]
        try:
            async with asyncio.timeout(self.command.stall_seconds):
                status, answer = await self.upstream.json("POST", target, data)
        except TimeoutError:
            return f"no first token in {self.command.stall_seconds:g} seconds"
        except EngineGone as problem:
            await asyncio.sleep(1.0)  # the process's own end tells more
            return str(problem)
        if status != 200:
            return f"no first token: {answer}"
        self.output.serving = True
        self.state, self.ever_ready = "ready", True
        log.info("engine: ready after %.1f s", time.monotonic() - started)
        self._on_ready()
        await watchdog.until_stalled(self.upstream, self.command.stall_seconds)
        return f"no progress for {self.command.stall_seconds:g} seconds: it hangs"

    async def _healthy(self) -> bool:
        try:
            async with asyncio.timeout(5.0):
                status, _ = await self.upstream.json("GET", "/health")
        except (EngineGone, TimeoutError):
            return False
        return status == 200

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in _lines(process.stdout):
            if (shown := self.output.read(line)) is not None:
                log.info("engine: %s", shown)


def environment() -> dict[str, str]:
    """Return the engine's environment.

    No variable may change what was reviewed in git, so the engine's own ones go. With a router's port set,
    the engine reports its progress on its standard output and ends when its standard input is closed, as
    it does under its own router: so it never outlives the front.
    """
    found = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_ARG_")}
    return {**found, "LLAMA_SERVER_ROUTER_PORT": "0"}


def with_port(argv: Sequence[str], port: int) -> tuple[str, ...]:
    """Return the command line with another port."""
    found = list(argv)
    found[found.index("--port") + 1] = str(port)
    return tuple(found)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield lines of any length; `readline` would fail on long ones."""
    rest = b""
    while piece := await stream.read(65536):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
        rest = rest[-65536:]
    if rest:
        yield rest.decode(errors="replace")


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
