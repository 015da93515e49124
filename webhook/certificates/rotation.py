"""Decides the next step of an exchange of certificates: a pure function of what is seen.

An authority is exchanged in phases, so that no API server ever meets a certificate that it does not trust:

1. a new authority joins the old one in the bundle; servers still show the old leaf
2. the bundle is in every webhook configuration, read back, and API servers had time to take it up
3. the new authority signs a leaf; every replica loads it and reports that
4. the old authority is dropped from the bundle

A lost or broken Secret begins the same exchange, from what is remembered. Every step is derived anew from
what is seen, so a leader may die between any two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LIFE_OF_AUTHORITY = timedelta(days=365)
LIFE_OF_LEAF = timedelta(days=90)
MOST_AUTHORITIES = 8
"""In one bundle, should exchange after exchange be interrupted."""

Phase = Literal["missing", "publishing", "published", "switched", "steady"]
PHASES: tuple[Phase, ...] = ("missing", "publishing", "published", "switched", "steady")


@dataclass(frozen=True)
class Authority:
    """An authority in a bundle, by its fingerprint."""

    id: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True)
class Leaf:
    """A server's certificate, by its fingerprint and its issuer's."""

    id: str
    issuer: str
    not_before: datetime
    not_after: datetime
    names: frozenset[str]


@dataclass(frozen=True)
class Stored:
    """What a Secret holds."""

    bundle: tuple[Authority, ...]
    signer: str
    leaf: Leaf | None

    @property
    def ids(self) -> tuple[str, ...]:
        """The authorities, the newest first."""
        return tuple(one.id for one in self.bundle)


@dataclass(frozen=True)
class Replica:
    """What a living replica reports."""

    leaf: str | None
    """The certificate that it shows; None while it has none."""
    bundle: str | None
    """The bundle that it knows, as `bundle_id` names it."""


@dataclass(frozen=True)
class Observed:
    """Everything that a step is decided by."""

    stored: Stored | None
    """None where the Secret is gone or cannot be used."""
    remembered: Stored | None = None
    """The last good content that this process saw."""
    published: tuple[tuple[Authority, ...], ...] = ()
    """What each entry of each webhook configuration trusts now."""
    replicas: tuple[Replica, ...] = ()
    published_s: float | None = None
    """Seconds since this bundle was first read back everywhere, without a break."""
    switched_s: float | None = None
    """Seconds since every replica first reported this leaf, without a break."""
    requested: bool = False
    """Somebody asked for an exchange."""
    names: frozenset[str] = frozenset()
    """What the server's certificate must be good for."""


@dataclass(frozen=True)
class Policy:
    """How long things last."""

    settle_s: float = 60.0
    """For API servers to take up a changed configuration."""
    renew_at: float = 2 / 3
    """Of a life, when it is renewed."""


@dataclass(frozen=True)
class NewAuthority:
    """Store a new authority in front of these, with the leaf of the Secret or of memory, where usable."""

    keep: tuple[str, ...]
    leaf: Literal["stored", "remembered"] | None
    reason: str


@dataclass(frozen=True)
class NewLeaf:
    """Store a leaf of the signing authority."""

    reason: str


@dataclass(frozen=True)
class Drop:
    """Store the bundle with these alone."""

    keep: tuple[str, ...]


@dataclass(frozen=True)
class Publish:
    """Write the stored bundle into the webhook configurations."""


@dataclass(frozen=True)
class Wait:
    """Do nothing yet."""

    reason: str


@dataclass(frozen=True)
class Rest:
    """All is well until this time."""

    until: datetime


Step = NewAuthority | NewLeaf | Drop | Publish | Wait | Rest


def decide(seen: Observed, now: datetime, policy: Policy) -> Step:
    """Return the one next step."""
    stored = seen.stored
    if stored is None:
        return _restore(seen, now)
    if any({one.id for one in trusted} != set(stored.ids) for trusted in seen.published):
        return Publish()
    if stored.leaf is None or stored.leaf.issuer != stored.signer:
        return _published(stored, seen, now, policy)
    if len(stored.bundle) > 1:
        return _switched(stored, seen, now, policy)
    return _steady(stored, seen, now, policy)


def phase(seen: Observed) -> Phase:
    """Name how far an exchange is, for people and metrics."""
    stored = seen.stored
    if stored is None:
        return "missing"
    if any({one.id for one in trusted} != set(stored.ids) for trusted in seen.published):
        return "publishing"
    if stored.leaf is None or stored.leaf.issuer != stored.signer:
        return "published"
    return "switched" if len(stored.bundle) > 1 else "steady"


def bundle_id(ids: Iterable[str]) -> str:
    """Name a bundle by its authorities, in any order."""
    return ",".join(sorted(one[:16] for one in ids))


def renewal(start: datetime, end: datetime, policy: Policy) -> datetime:
    """Return when something with this life is renewed."""
    return start + (end - start) * policy.renew_at


def _restore(seen: Observed, now: datetime) -> Step:
    """Begin anew, and go on trusting whom replicas may still show a certificate of."""
    remembered = seen.remembered
    known: dict[str, Authority] = {}
    sources = [remembered.bundle if remembered else (), *seen.published]
    for one in (one for source in sources for one in source):
        if one.not_after > now:
            known.setdefault(one.id, one)
    leaf = remembered.leaf if remembered else None
    usable = leaf is not None and leaf.issuer in known and leaf.not_after > now
    first = leaf.issuer if leaf is not None and usable else None
    return NewAuthority(_keep(known, first), "remembered" if usable else None, "the Secret is gone or broken")


def _published(stored: Stored, seen: Observed, now: datetime, policy: Policy) -> Step:
    """The new authority stands in the bundle; nobody shows a certificate of it yet."""
    serving = [one for one in seen.replicas if one.leaf is not None]
    broken = stored.leaf is not None and stored.leaf.not_after <= now
    if serving and not broken:
        wanted = bundle_id(stored.ids)
        if any(one.bundle != wanted for one in serving):
            return Wait("not every replica knows the new bundle")
        if seen.published and (seen.published_s is None or seen.published_s < policy.settle_s):
            return Wait("API servers are given time to take up the new bundle")
    return NewLeaf("the new authority is trusted everywhere")


def _switched(stored: Stored, seen: Observed, now: datetime, policy: Policy) -> Step:
    """The new authority signed a leaf; old ones may still be shown."""
    assert stored.leaf is not None  # `decide` has looked
    if stored.leaf.not_after <= now < stored.bundle[0].not_after:
        return NewLeaf("the certificate ended during the exchange")
    if any(one.leaf != stored.leaf.id for one in seen.replicas):
        return Wait("not every replica shows the new certificate")
    if seen.switched_s is None or seen.switched_s < policy.settle_s:
        return Wait("replicas that are just starting are given time to report")
    return Drop((stored.signer,))


def _steady(stored: Stored, seen: Observed, now: datetime, policy: Policy) -> Step:
    authority, leaf = stored.bundle[0], stored.leaf
    assert leaf is not None  # `decide` has looked
    due = renewal(authority.not_before, authority.not_after, policy)
    if seen.requested:
        return NewAuthority(stored.ids, "stored", "somebody asked for it")
    if due <= now:
        return NewAuthority(stored.ids, "stored", "two thirds of the authority's life are over")
    if not seen.names <= leaf.names:
        return NewLeaf("the server has other names now")
    leaf_due = renewal(leaf.not_before, leaf.not_after, policy)
    if leaf_due <= now and leaf.not_after < authority.not_after:
        return NewLeaf("two thirds of the certificate's life are over")
    return Rest(min(due, leaf_due) if leaf_due > now else due)


def _keep(known: Mapping[str, Authority], first: str | None) -> tuple[str, ...]:
    """The issuer of what is shown, then the newest."""
    newest = sorted(known.values(), key=lambda one: (one.id != first, -one.not_before.timestamp(), one.id))
    return tuple(one.id for one in newest[: MOST_AUTHORITIES - 1])
