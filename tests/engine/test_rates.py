"""Mass starts against a provider that takes only so many at a time, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import pytest

from spinyard.core.ids import ResourceKey, Uid
from spinyard.core.spec import Kind, ServiceSpec, TemplateSpec, digest_of
from spinyard.engine.context import Context, EngineSettings
from spinyard.engine.loop import Engine
from spinyard.engine.rates import FORGET_SECONDS, TURN_SECONDS_MAX, Bucket
from spinyard.ports.store import NewObject, Transaction
from spinyard.providers.fake.faults import Fault, RateLimit
from spinyard.providers.fake.prober import FakeProber
from spinyard.providers.fake.provider import FakeProvider
from spinyard.providers.fake.world import World
from spinyard.spin.decide import SpinDomain
from spinyard.spin.service.decide import ServiceDomain
from spinyard.spin.snapshot import ProviderFacts, SpinRules
from spinyard.store import SqlStore
from spinyard.testing.virtual import VirtualClock, VirtualLoop, run_virtual

T = TypeVar("T")
TEMPLATE = TemplateSpec(command=("serve",), provider="fake", termination_grace_seconds=1.0)
DIGEST = digest_of(TEMPLATE)


@dataclass
class Ran:
    """`up_at`: when each instance was there, in seconds from the start. `gone_at`: the same, of its end."""

    up_at: dict[str, float]
    gone_at: dict[str, float]
    limit: RateLimit
    failed: int


def run(
    count: int, limit: RateLimit, seconds: float, *, delete_after: float | None = None, reply_seconds: float = 0.0
) -> Ran:
    loop = VirtualLoop()
    clock = VirtualClock(loop)
    store = SqlStore(":memory:", new_id=lambda: "home-1")
    world = World()
    ran = Ran({}, {}, limit, 0)

    def note(effect: str, key: str) -> None:
        if effect == "created":
            ran.up_at.setdefault(key, clock.monotonic())

    world.watch = note
    provider = Distant(world, clock, limit, reply_seconds)
    rules = SpinRules({"fake": ProviderFacts("host:fake", (1, 100_000))})

    async def inline(work: Callable[[], T]) -> T:
        return work()

    context = Context(
        store=store,
        providers={"fake": provider},
        domains={Kind.SPIN: SpinDomain(rules), Kind.SERVICE: ServiceDomain(rules)},
        prober=FakeProber(world, clock),
        clock=clock,
        write=inline,
        read=inline,
        settings=EngineSettings("engine-1", sweep_seconds=1e6),
    )
    uid = Uid("web")
    spec = ServiceSpec(replicas=count, template_digest=DIGEST)

    def apply(tx: Transaction) -> None:
        tx.put_template(DIGEST, TEMPLATE)
        new = NewObject(uid, Kind.SERVICE, "default", "web", spec, "pending", b"{}", template_digest=DIGEST)
        tx.insert(new, actor="t", why="wished")

    async def work() -> None:
        store.transact(apply, now=clock.now())
        task = asyncio.ensure_future(Engine(context).run())
        if delete_after is not None:
            await asyncio.sleep(delete_after)
            store.transact(lambda tx: tx.update(uid, actor="t", why="d", reason="D", delete=True), now=clock.now())
        for _ in range(int(seconds * 10)):
            await asyncio.sleep(0.1)
            for key in ran.up_at.keys() - ran.gone_at.keys() - world.things.keys():
                ran.gone_at[key] = clock.monotonic()
            done = ran.gone_at.keys() if delete_after is not None else ran.up_at.keys()
            if (
                len(done) >= (count if delete_after is None else len(ran.up_at))
                and store.counts().get(("Spin", "provisioning"), 0) == 0
            ):
                break
        task.cancel()

    run_virtual(loop, work())
    ran.failed = len(store.children(uid).failures)
    store.close()
    return ran


class Distant(FakeProvider):
    """Its answers take a while, the refusals too."""

    def __init__(self, world: World, clock: VirtualClock, limit: RateLimit, reply_seconds: float) -> None:
        super().__init__(world, clock, rate_limit=limit)
        self._reply_seconds = reply_seconds
        if reply_seconds:
            self.capabilities = replace(self.capabilities, at_once=False)

    async def _before(self, operation: str, key: ResourceKey) -> Fault | None:
        if self._reply_seconds:
            await asyncio.sleep(self._reply_seconds)
        return await super()._before(operation, key)


@pytest.mark.parametrize(
    ("burst", "retry_after", "seconds_max"),
    [(10, None, 60.0), (10, 1.0, 65.0), (1, None, 90.0)],
    ids=["says no time", "says when", "no burst"],
)
def test_500_instances_of_a_provider_that_takes_10_a_second(
    burst: int, retry_after: float | None, seconds_max: float
) -> None:
    limit = RateLimit(10.0, burst=burst, retry_after_seconds=retry_after)
    ran = run(500, limit, 150.0)
    assert len(ran.up_at) == 500 and ran.failed == 0
    asked, refused = limit.asked["ensure"], limit.refused["ensure"]
    took = max(ran.up_at.values())
    longest = max(b - a for a, b in pairwise(sorted(ran.up_at.values())))
    print(f"{took:.1f} s, {asked} calls, {refused} refused, longest gap {longest:.1f} s")
    assert 0 < refused < 0.05 * asked
    assert 49.0 <= took <= seconds_max, "ideal: 50 s"
    assert longest < 3.0


def test_removals_do_not_wait_behind_the_creations_of_the_same_limit() -> None:
    limit = RateLimit(10.0, burst=10)
    ran = run(200, limit, 60.0, delete_after=8.0)
    made = len(ran.up_at)
    assert 50 <= made <= 110, "deleted in the middle"
    assert len(ran.gone_at) == made
    assert max(ran.gone_at.values()) < 8.0 + made / 10.0 * 2


# -- the bucket alone --------------------------------------------------------------------------------------------------


def limited(rate_was: int = 10) -> Bucket:
    bucket = Bucket()
    bucket.passed.extend(0.1 * n for n in range(rate_was))
    assert bucket.limited("first", 0.95, None) > 0
    return bucket


def test_it_is_unlimited_until_the_provider_says_no_and_then_halves_what_went_through() -> None:
    bucket = Bucket()
    assert all(bucket.ask(f"k{n}", 0.0) is None for n in range(1000))
    bucket.passed.extend([0.5] * 40)
    bucket.limited("k", 1.0, None)
    assert bucket.rate == 20.0
    bucket.limited("other", 1.1, None)
    assert bucket.rate == 20.0, "an answer to what was sent before the cut"


def test_the_time_that_the_provider_asks_for_holds_for_all() -> None:
    bucket = limited()
    bucket.limited("second", 1.0, 7.0)
    assert all((bucket.ask(f"k{n}", 7.9) or 0.0) > 0 for n in range(5))
    assert bucket.ask("k0", 8.01) is None


def test_a_provider_cannot_ask_for_a_day() -> None:
    bucket = limited()
    bucket.limited("second", 1.0, 86400.0)
    assert bucket.ask("k0", 599.0) is not None
    assert bucket.ask("k0", 602.0) is None


def test_who_waits_is_told_a_time_of_its_own_and_never_a_long_one() -> None:
    bucket = limited()
    waits = [wait for n in range(400) if (wait := bucket.ask(f"k{n}", 0.96)) is not None]
    assert len(waits) > 395 and max(waits) <= 1.2 * TURN_SECONDS_MAX
    assert len(set(waits)) > 300
    assert waits[5] < waits[20]


def test_it_forgets_a_limit_that_nobody_waited_for() -> None:
    bucket = limited()
    assert bucket.ask("a", 1.0 + FORGET_SECONDS) is None
    assert bucket.rate is None


def test_those_that_never_come_back_do_not_stand_in_the_way() -> None:
    bucket = limited()
    for n in range(100):
        bucket.ask(f"gone{n}", 0.96)
    assert bucket.ask("new", 40.0) is None
    waits = [bucket.ask(f"another{n}", 40.0) for n in range(10)]
    assert len(bucket.waiting) <= 10
    assert max(wait or 0.0 for wait in waits) < 1.5
