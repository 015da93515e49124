"""Exchanges are interrupted at any point, and no API server meets a certificate that it does not trust.

Replicas poll in any order, leaders die between any two steps, the Secret is lost, and API servers go by
what the configuration named at any of the last few ticks.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from webhook.certificates import rotation
from webhook.certificates.rotation import Authority, Leaf, Observed, Policy, Replica, Stored

NOW = datetime(2026, 3, 1, tzinfo=UTC)
END = NOW + timedelta(days=365)
SETTLE = 3
EVENTS = st.lists(
    st.sampled_from(["lead"] * 6 + ["look 0", "look 1"] * 3 + ["ask", "tick", "tick", "lose", "leader dies"]),
    min_size=20,
    max_size=80,
)


class World:
    """Two replicas, one Secret, one configuration, and API servers that are late."""

    def __init__(self) -> None:
        self.made = 0
        self.tick = 0
        self.known: dict[str, Authority] = {}
        self.secret: Stored | None = None
        self.memory: list[Stored | None] = [None, None]
        self.shown: list[Leaf | None] = [None, None]
        self.configuration: tuple[str, ...] = ()
        self.recent: list[tuple[str, ...]] = []
        self.leader = 0
        self.asked = False
        self.since: dict[str, tuple[object, int]] = {}

    def do(self, event: str) -> None:
        if event == "lead":
            self.lead()
        elif event.startswith("look"):
            self.look(int(event[-1]))
        elif event == "tick":
            self.tick += 1
            self.recent = [*self.recent, self.configuration][-SETTLE:]
        elif event == "lose":
            self.secret = None
        elif event == "ask":
            self.asked = True
        else:
            self.leader, self.since = 1 - self.leader, {}

    def look(self, number: int) -> None:
        if self.secret is not None:
            self.memory[number] = self.secret
            self.shown[number] = self.secret.leaf or self.shown[number]

    def lead(self) -> None:
        step = rotation.decide(self.seen(), NOW, Policy(settle_s=SETTLE))
        stored, remembered = self.secret, self.memory[self.leader]
        if isinstance(step, rotation.NewAuthority):
            self.made += 1
            fresh = Authority(f"ca{self.made}", NOW, END)
            self.known[fresh.id] = fresh
            source = {"stored": stored, "remembered": remembered, None: None}[step.leaf]
            bundle = (fresh, *(self.known[one] for one in step.keep))
            self.secret, self.asked = Stored(bundle, fresh.id, source.leaf if source else None), False
        elif isinstance(step, rotation.NewLeaf) and stored is not None:
            self.made += 1
            leaf = Leaf(f"leaf{self.made}", stored.signer, NOW, END, frozenset())
            self.secret = Stored(stored.bundle, stored.signer, leaf)
        elif isinstance(step, rotation.Drop) and stored is not None:
            kept = tuple(one for one in stored.bundle if one.id in step.keep)
            self.secret = Stored(kept, stored.signer, stored.leaf)
        elif isinstance(step, rotation.Publish) and stored is not None:
            self.configuration = stored.ids
        if self.secret is not None:
            self.memory[self.leader] = self.secret

    def seen(self) -> Observed:
        stored = self.secret
        ids = stored.ids if stored and set(stored.ids) == set(self.configuration) else None
        leaf = stored.leaf.id if stored and stored.leaf else None
        everybody = ids and leaf and all(one is not None and one.id == leaf for one in self.shown)
        return Observed(
            stored=stored,
            remembered=self.memory[self.leader],
            published=(tuple(self.known[one] for one in self.configuration),),
            replicas=tuple(
                Replica(leaf.id if leaf else None, rotation.bundle_id(memory.ids) if memory else None)
                for leaf, memory in zip(self.shown, self.memory, strict=True)
            ),
            published_s=self.age("published", ids),
            switched_s=self.age("switched", (leaf, ids) if everybody else None),
            requested=self.asked,
        )

    def age(self, name: str, what: object) -> float | None:
        if what is None:
            self.since.pop(name, None)
            return None
        if name not in self.since or self.since[name][0] != what:
            self.since[name] = (what, self.tick)
        return self.tick - self.since[name][1]

    def come_to_rest(self) -> None:
        for _ in range(40):
            for event in ("lead", "look 0", "look 1", "tick"):
                self.do(event)

    def trusted(self) -> bool:
        return all(
            leaf is None or leaf.issuer in named
            for leaf in self.shown
            for named in (*self.recent, self.configuration)
        )


@given(EVENTS)
@settings(max_examples=400, deadline=None)
def test_whatever_happens_every_certificate_shown_is_trusted_and_the_exchange_ends(events: list[str]) -> None:
    world = World()
    world.come_to_rest()
    assert world.trusted()
    for event in events:
        world.do(event)
        assert world.trusted(), event
    world.come_to_rest()
    assert world.trusted()
    assert rotation.phase(world.seen()) == "steady"
    assert not world.asked
