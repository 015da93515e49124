"""Leadership by Lease, on a clock that nobody can set.

Times in the Lease are for people. What counts is when we last saw it renewed, on our own monotonic clock:
as a leader, the start of our last renewal that succeeded; as a candidate, when the record last changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kube import times
from kube.errors import AlreadyExists, ApiError, Conflict, KubeError, NotFound, NotLeading, Unreachable
from kube.resources import LEASES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kube.client import Client, Object

log = logging.getLogger(__name__)

RENEW_SHARE = 2 / 3
"""Of the lease, after which a leader that could not renew it stops; client-go's 10 of 15 seconds."""
LONGEST_RETRY_S = 2.0
"""Between two looks at the lease; client-go's as well."""


class Leader:
    """Runs work while the lease is ours, and ends the work before it can be somebody else's."""

    def __init__(
        self, client: Client, *, namespace: str, name: str, identity: str, duration_s: float = 15,
        renew_s: float | None = None, retry_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        renew_s = duration_s * RENEW_SHARE if renew_s is None else renew_s
        retry_s = min(LONGEST_RETRY_S, duration_s / 5) if retry_s is None else retry_s
        if not retry_s < renew_s < duration_s:
            raise ValueError("a lease needs retry < renew < duration")
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration_s = duration_s
        self._renew_s = renew_s
        self._retry_s = retry_s
        self._clock = clock
        self._renewed_at: float | None = None
        self._seen: tuple[str, float] = ("", clock())
        self.transitions = 0
        """How often we became the leader."""

    @property
    def leading(self) -> bool:
        """Whether the lease is ours for sure: renewed less than the renewal deadline ago."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._renew_s

    @property
    def seen(self) -> bool:
        """Whether the lease was read or written at all, so that we could lead."""
        return bool(self._seen[0]) or self.transitions > 0

    def check(self) -> None:
        """Raise NotLeading unless `leading`; ask before every write that must not happen twice."""
        if not self.leading:
            raise NotLeading(f"the lease {self._namespace}/{self._name} is not held by {self._identity}")

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Compete for ever; returns when the work returns, raises what it raises, releases when cancelled."""
        try:
            while True:
                while not await self._attempt():
                    await asyncio.sleep(self._retry_s * random.uniform(1.0, 1.2))
                self.transitions += 1
                log.info("leading as %s", self._identity)
                if await self._lead(work):
                    return
                log.warning("the lease was lost; the work has ended")
        finally:
            await self._release()

    async def _lead(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Work and renew; True when the work is done, False when the lease is lost."""
        working = asyncio.ensure_future(work())
        renewing = asyncio.ensure_future(self._keep())
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
                return True
            await renewing  # a bug there is no lost lease
            return False
        finally:
            for task in (working, renewing):
                task.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)

    async def _keep(self) -> None:
        """Renew until the deadline passes without success."""
        while self.leading:
            await asyncio.sleep(self._retry_s)
            if not self.leading:
                return
            left = self._renew_s - (self._clock() - (self._renewed_at or 0.0))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(left, 0.0)):
                    await self._attempt()

    async def _attempt(self) -> bool:
        """Take or renew the lease if it may be taken, and say whether it is ours."""
        began = self._clock()
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
            spec = lease.get("spec") or {}
            if not self._may_take(lease, spec):
                self._renewed_at = None
                return False
            await self._client.replace(LEASES, {**lease, "spec": self._spec(spec)})
        except NotFound:
            if not await self._create():
                return False
        except Conflict:
            # Somebody was faster, or our own answer was lost: the next look tells which.
            return False
        except KubeError as error:
            log.warning("the lease could not be renewed: %s", error)
            return False
        self._renewed_at = began
        return True

    def _may_take(self, lease: Object, spec: Object) -> bool:
        version = str(lease["metadata"].get("resourceVersion"))
        if version != self._seen[0]:
            self._seen = (version, self._clock())
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        theirs = float(spec.get("leaseDurationSeconds") or self._duration_s)
        return self._clock() - self._seen[1] > theirs

    async def _create(self) -> bool:
        body = {
            "apiVersion": LEASES.api_version, "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace}, "spec": self._spec({}),
        }  # fmt: skip
        try:
            await self._client.create(LEASES, body)
        except (AlreadyExists, Unreachable):
            return False
        except ApiError as error:
            log.warning("the lease could not be made: %s", error)
            return False
        return True

    def _spec(self, old: Object) -> dict[str, Any]:
        now = times.micros(datetime.now(UTC))
        ours = old.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration_s)),
            "acquireTime": old.get("acquireTime") if ours else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if ours or not old else 1),
        }

    async def _release(self) -> None:
        """Hand the lease back, so that the next leader need not wait; best effort, and brief."""
        held, self._renewed_at = self._renewed_at, None
        if held is None:
            return
        try:
            async with asyncio.timeout(3):
                lease = await self._client.get(LEASES, self._name, self._namespace)
                spec = lease.get("spec") or {}
                if spec.get("holderIdentity") == self._identity:
                    await self._client.replace(LEASES, {**lease, "spec": {**spec, "holderIdentity": ""}})
        except (KubeError, TimeoutError) as error:
            log.info("the lease was not handed back, so the next leader waits for its end: %s", error)
