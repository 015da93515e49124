"""Rates in requests and tokens per minute, as buckets that fill evenly."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from serving.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.keys import Key


class Bucket:
    """Holds up to one minute's worth; what is spent afterwards may put it into debt."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._at = clock()

    def wait(self, amount: float = 1.0) -> float:
        """Return the seconds until `amount` is there, 0 if it is now."""
        self._fill()
        return max(0.0, (amount - self._level) * 60 / self.per_minute)

    def spend(self, amount: float) -> None:
        """Take `amount` out, also where it is not there."""
        self._fill()
        self._level -= amount

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now


class Limits:
    """The buckets of every key; a key's own limits come before those of all."""

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._default = (requests_per_minute, tokens_per_minute)
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def check(self, key: Key) -> None:
        """Count a request.

        How many tokens it will take nobody knows yet: it may begin while its key is not in debt.

        Raises:
            Refusal: 429, with the time after which the key may ask again.
        """
        requests, tokens = self._bucket(key, "requests"), self._bucket(key, "tokens")
        for bucket, unit in ((requests, "requests"), (tokens, "tokens")):
            if bucket is not None and (seconds := bucket.wait(1.0)) > 0:
                text = f"the key may use {bucket.per_minute} {unit} per minute"
                raise Refusal(429, text, code="rate_limit_exceeded", retry_after=seconds)
        if requests is not None:
            requests.spend(1.0)

    def spend(self, key: Key, tokens: int) -> None:
        """Count the tokens of an answer, prompt and completion together."""
        if bucket := self._bucket(key, "tokens"):
            bucket.spend(tokens)

    def _bucket(self, key: Key, unit: str) -> Bucket | None:
        own, default = (
            (key.requests_per_minute, self._default[0])
            if unit == "requests"
            else (key.tokens_per_minute, self._default[1])
        )
        rate = own if own is not None else default
        if rate is None:
            return None
        bucket = self._buckets.get((key.name, unit))
        if bucket is None or bucket.per_minute != rate:
            bucket = self._buckets[key.name, unit] = Bucket(rate, self._clock)
        return bucket
