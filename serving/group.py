"""The leader's side of a replica on several nodes: waits for the workers, and knows when one is gone.

The engine itself learns of a dead worker only with the next request, and then it aborts. So the front holds a
lifeline to every worker. `ready` returns when all are there; `broken` returns when one ended, went silent, or
came back as another instance, because what the engine keeps there is lost then: the engine has to be started
anew, after `ready`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from berth import labels

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("serving.group")

SILENCE_SECONDS = 10.0
"""A worker that says nothing for so long is gone: its node died, or the network between."""
RETRY_SECONDS = 1.0
_REPORT_SECONDS = 15.0


@dataclass
class _Lifeline:
    endpoint: str
    instance: str | None = None
    """The RPC server that is there now; None while none is."""
    ending: bool = False
    problem: str = "not reached yet"


@dataclass
class Group:
    """The workers of one replica, by the endpoints `host:port` of their RPC servers."""

    endpoints: Sequence[str]
    metrics_port: int = labels.METRICS_PORT
    silence: float = SILENCE_SECONDS
    _lifelines: list[_Lifeline] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _members: tuple[str | None, ...] = ()

    async def __aenter__(self) -> Group:
        self._lifelines = [_Lifeline(endpoint) for endpoint in self.endpoints]
        self._tasks = [asyncio.create_task(self._hold(one)) for one in self._lifelines]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ready(self) -> None:
        """Return when every worker is there; how long that may take is the caller's to decide."""
        reported = 0.0
        async with self._changed:
            while self.missing:
                if time.monotonic() - reported > _REPORT_SECONDS:
                    reported = time.monotonic()
                    log.info(self.progress)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _REPORT_SECONDS)
            self._members = tuple(one.instance for one in self._lifelines)
        if self.endpoints:
            log.info("all %d workers are there", len(self.endpoints))

    async def broken(self) -> str:
        """Return why the group that `ready` saw is not whole any more; while it is whole, wait."""
        async with self._changed:
            while True:
                for one, member in zip(self._lifelines, self._members, strict=True):
                    if one.instance != member:
                        return f"worker {one.endpoint} {one.problem if not one.instance else 'restarted'}"
                await self._changed.wait()

    @property
    def missing(self) -> list[str]:
        """The endpoints that are not there."""
        return [one.endpoint for one in self._lifelines if one.instance is None]

    @property
    def ending(self) -> bool:
        """Whether a worker was told to stop and waits for this replica's running answers."""
        return any(one.ending for one in self._lifelines)

    @property
    def progress(self) -> str:
        """One line for people."""
        there = len(self._lifelines) - len(self.missing)
        waited = ", ".join(f"{one.endpoint} ({one.problem})" for one in self._lifelines if not one.instance)
        return f"{there} of {len(self._lifelines)} workers are there" + (
            f"; waiting for {waited}" if waited else ""
        )

    async def _hold(self, one: _Lifeline) -> None:
        """Keep a lifeline for ever; every end of it is a worker that is gone."""
        while True:
            try:
                await self._listen(one)
                problem = "ended"
            except TimeoutError:
                problem = f"said nothing for {self.silence:.0f} s"
            except (OSError, ValueError, EOFError) as error:
                problem = f"is not reachable: {error}"
            await self._tell(one, None, False, problem)
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, one: _Lifeline) -> None:
        """Read beats until there are none."""
        host = one.endpoint.rpartition(":")[0].strip("[]")
        async with asyncio.timeout(self.silence):
            reader, writer = await asyncio.open_connection(host, self.metrics_port)
        try:
            writer.write(f"GET /lifeline HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            async with asyncio.timeout(self.silence):
                await writer.drain()
                status = await reader.readline()
                while (await reader.readline()).strip():
                    pass
            if b" 200 " not in status:
                raise ValueError(f"answered {status.decode('latin-1').strip()!r}")
            while True:
                async with asyncio.timeout(self.silence):
                    line = await reader.readline()
                if not line:
                    return
                ready, instance, ending = _beat(line)
                if ready:
                    await self._tell(one, instance, ending, "")
        finally:
            writer.close()

    async def _tell(self, one: _Lifeline, instance: str | None, ending: bool, problem: str) -> None:
        """Note how a worker is, and wake who waits for a change."""
        if (one.instance, one.ending) == (instance, ending):
            one.problem = problem
            return
        async with self._changed:
            one.instance, one.ending, one.problem = instance, ending, problem
            self._changed.notify_all()


def _beat(line: bytes) -> tuple[bool, str, bool]:
    """Read a worker's beat, or raise ValueError: who answers may be another program."""
    beat = json.loads(line)
    if not isinstance(beat, dict) or not {"ready", "instance", "ending"} <= beat.keys():
        raise ValueError(f"it says {line[:40]!r}, which is no worker's beat")
    return bool(beat["ready"]), str(beat["instance"]), bool(beat["ending"])
