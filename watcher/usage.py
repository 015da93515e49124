"""What all claims take together, kept up to date claim by claim: no pass counts thousands of them again."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from watcher.world import Amount, Usage

if TYPE_CHECKING:
    from datetime import datetime

HOUR_S = 3600.0
_MICRO = 1_000_000


class _Sum:
    """Money in whole millionths, so that ten thousand additions and subtractions end at zero."""

    def __init__(self) -> None:
        self.nodes = self.gpus = self.micro_cost = 0

    def add(self, amount: Amount, sign: int) -> None:
        self.nodes += sign * amount.nodes
        self.gpus += sign * amount.gpus
        self.micro_cost += sign * round(amount.cost_per_hour * _MICRO)

    def amount(self, creates: int) -> Amount:
        return Amount(self.nodes, self.gpus, self.micro_cost / _MICRO, creates)


class Ledger:
    """Amounts by claim, summed for the cluster and for each namespace."""

    def __init__(self) -> None:
        self._claims: dict[str, tuple[str, Amount]] = {}
        self._sums: defaultdict[str, _Sum] = defaultdict(_Sum)
        self._cluster = _Sum()
        self._created: dict[str, tuple[datetime, str]] = {}
        self._creates: Counter[str] = Counter()
        self._ageing: list[tuple[datetime, str]] = []

    def put(self, claim: str, namespace: str, amount: Amount) -> None:
        """Count a claim, in place of what it counted before."""
        if self._claims.get(claim) == (namespace, amount):
            return
        self.drop(claim)
        self._claims[claim] = (namespace, amount)
        self._add(namespace, amount, 1)

    def drop(self, claim: str) -> None:
        """Count a claim no more; that it was made stays known."""
        namespace, amount = self._claims.pop(claim, ("", None))
        if amount is not None:
            self._add(namespace, amount, -1)

    def created(self, claim: str, namespace: str, at: datetime) -> None:
        """Remember when a claim was made, once."""
        if claim not in self._created:
            self._created[claim] = (at, namespace)
            self._creates[namespace] += 1
            heapq.heappush(self._ageing, (at, claim))

    def uncreated(self, claim: str) -> None:
        """Forget a claim that was to be made and was not."""
        _, namespace = self._created.pop(claim, (None, None))
        if namespace is not None:
            self._creates[namespace] -= 1

    def usage(self, namespace: str, now: datetime) -> Usage:
        """Return what the cluster and the namespace take now."""
        while self._ageing and (now - self._ageing[0][0]).total_seconds() > HOUR_S:
            at, claim = heapq.heappop(self._ageing)
            if self._created.get(claim, (None,))[0] == at:
                self.uncreated(claim)
        own = self._sums[namespace] if namespace in self._sums else _Sum()
        return Usage(self._cluster.amount(len(self._created)), own.amount(self._creates[namespace]))

    def namespaces(self) -> dict[str, Amount]:
        """Return what each namespace takes, for the metrics."""
        return {namespace: one.amount(0) for namespace, one in self._sums.items() if one.nodes}

    def _add(self, namespace: str, amount: Amount, sign: int) -> None:
        self._cluster.add(amount, sign)
        self._sums[namespace].add(amount, sign)
        if not self._sums[namespace].nodes:
            del self._sums[namespace]
