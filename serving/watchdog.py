"""Tells a hanging engine from a busy one: by tokens, since its HTTP threads answer whatever its loop does."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from serving.upstream import EngineGone

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from serving.upstream import Upstream

_LONGEST_PERIOD_SECONDS = 5.0


class Watch:
    """Decides from looks at the engine, taken now and then."""

    def __init__(self, limit_seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self.limit_seconds = limit_seconds
        self._clock = clock
        self._mark: Hashable = None
        self._owing = False
        self._since = clock()

    def look(self, *, owing: bool, mark: Hashable) -> bool:
        """Return whether the engine hangs: it owes something, and `mark` has not moved for too long."""
        now = self._clock()
        rested, self._owing = not self._owing, owing
        if rested or not owing or mark != self._mark:
            self._mark, self._since = mark, now
            return False
        return now - self._since > self.limit_seconds


async def until_stalled(upstream: Upstream, limit_seconds: float) -> None:
    """Return when the engine has made no progress for `limit_seconds` though it owed some.

    Progress is any piece of an answer, or a slot's numbers of tokens read and written. An engine that owes
    nothing must still answer from its main loop, which is where `/slots` is answered.
    """
    watch = Watch(limit_seconds)
    period = min(_LONGEST_PERIOD_SECONDS, limit_seconds / 4)
    slots: tuple[Any, ...] | None = None
    while True:
        await asyncio.sleep(period)
        seen = await _slots(upstream, period)
        owing = upstream.waiting() > 0 or seen is None
        slots = seen if seen is not None else slots
        if watch.look(owing=owing, mark=(upstream.activity, slots)):
            return


async def _slots(upstream: Upstream, timeout: float) -> tuple[Any, ...] | None:
    try:
        async with asyncio.timeout(timeout):
            status, slots = await upstream.json("GET", "/slots")
    except (TimeoutError, EngineGone):
        return None
    if status != 200 or not isinstance(slots, list):
        return ()  # switched off by the Workspace's extraArgs; the answer alone is a sign of life
    return tuple(
        (
            slot.get("id_task"),
            slot.get("is_processing"),
            slot.get("n_prompt_tokens_processed"),
            str(slot.get("next_token")),
        )
        for slot in slots
    )
