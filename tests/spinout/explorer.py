"""All that can happen to a Spinout, one event after the other: `python -m tests.spinout.explorer`.

Explicit states: a state is what the Spinout remembers and how its world is, without times and counts. From each one
that is new every event is tried, each followed by one pass of the real domain; what the gates say is an event too.
After each pass the invariants of SPINOUT that are about phases and weights are looked at.
"""

from __future__ import annotations

import copy
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from spinyard.core.figures import Gate
from spinyard.core.plan import Plan
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Route
from spinyard.core.spinout import Shadow, SpinoutStep
from spinyard.core.verdict import Verdict
from spinyard.spinout import gates
from spinyard.spinout.status import Proven, SpinoutState, SpinoutStatus
from tests.spinout.worlds import SPEC, Yard

S = SpinoutState
Key = tuple[object, ...]
OVER = (S.COMPLETED, S.ABANDONED)
BACK = (S.ROLLING_BACK, S.ROLLED_BACK, S.ABANDONED)
STARTS_MAX = 2
SMALL = replace(
    SPEC,
    steps=(SpinoutStep(5000), SpinoutStep(WEIGHT_ALL)),
    shadow=Shadow(compared_min=1),
    baseline_requests=0,
    baseline_seconds=0.0,
    soak_seconds=0.2,
    deadline_seconds=1e5,
    capacity_floor=2,
)


class World(Yard):
    """`verdict`: what every gate says."""

    verdict: Verdict = Verdict.PASS
    crashes: bool = False
    """the controller dies between this commit and what follows from it"""

    def execute(self, plan: Plan) -> None:
        if not self.crashes:
            super().execute(plan)

    def copied(self) -> World:
        other = copy.copy(self)
        other.parent, other.unit = copy.copy(self.parent), copy.copy(self.unit)
        other.parent.took, other.unit.took = {}, {}
        other.asked, other.plane = dict(self.asked), dict(self.plane)
        other.plans, other.records, other.weights = self.plans[-1:], self.records[-1:], self.weights[-1:]
        other.crashes = False
        return other

    def key(self) -> Key:
        status, row = self.status, self.row
        return (
            row.state, status.held_from, status.held_reason, status.step, status.weight, status.mirror,
            status.shown_serial == status.serial, status.is_bounded, bool(status.highest), status.was_copied,
            status.paged, bool(status.step_begun_at), status.reading is None, status.still is None,
            status.blind_since > 0, status.missing_since > 0, status.attempt, self.wished("started"),
            self.wished("promoted") > status.step, self.wished("abort"), status.is_contracted,
            row.paused, row.delete_at is not None, tuple((r.key, r.wanted) for r in row.resources),
            self.weight, self.in_force.mirror if self.in_force else 0, self.asked == self.plane, bool(self.asked),
            self.confirms, self.counts, self.verdict, self.unit.ready, self.parent.ready, self.unit.gone,
            len(self.spec.approvals) if row.spec is None else len(self.wished("approvals")),  # type: ignore[arg-type]
        )  # fmt: skip

    def wrong(self) -> int:
        """So many things are not as they should be."""
        ills = (not self.confirms, not self.counts, self.verdict is not Verdict.PASS, not self.unit.ready,
                not self.parent.ready, self.unit.gone, self.row.paused, self.asked != self.plane)  # fmt: skip
        return sum(map(bool, ills))

    def wished(self, name: str) -> object:
        return getattr(self.row.spec, name)


Event = Callable[[World], None]


def _completed(world: World) -> None:
    world.unit.spec = replace(world.unit.spec, route=Route(("gallery.local",), "/photos"))
    world.approve("completed")


def _start(world: World) -> None:
    if world.state == S.ROLLED_BACK and int(str(world.wished("started"))) < STARTS_MAX:
        world.wish(started=int(str(world.wished("started"))) + 1, abort="", promoted=0)


def _acks(world: World, confirms: bool) -> None:
    world.confirms = confirms
    if confirms:
        world.plane = dict(world.asked)


EVENTS: dict[str, Event] = {
    "a pass": lambda world: None,
    "acks are lost": lambda world: _acks(world, False),
    "acks come": lambda world: _acks(world, True),
    "the boundary is lost": lambda world: world.lose_boundary(),
    "gates pass": lambda world: setattr(world, "verdict", Verdict.PASS),
    "gates fail": lambda world: setattr(world, "verdict", Verdict.FAIL),
    "gates do not know": lambda world: setattr(world, "verdict", Verdict.INCONCLUSIVE),
    "counters go": lambda world: setattr(world, "counts", False),
    "counters come": lambda world: setattr(world, "counts", True),
    "the data plane restarts": lambda world: world.restart_plane(),
    "hold": lambda world: world.pause(),
    "resume": lambda world: world.pause(False),
    "abort": lambda world: world.wish(abort="enough"),
    "start": _start,
    "promote": lambda world: world.wish(promoted=world.status.step + 1),
    "approve": _completed,
    "the unit dies": lambda world: setattr(world.unit, "ready", 0),
    "the unit is back": lambda world: setattr(world.unit, "ready", 3),
    "the parent dies": lambda world: setattr(world.parent, "ready", 0),
    "the parent is back": lambda world: setattr(world.parent, "ready", 3),
    "the unit is deleted": lambda world: setattr(world.unit, "gone", True),
    "delete": lambda world: world.delete(),
    "a crash": lambda world: setattr(world, "crashes", True),
    "minutes pass": lambda world: world.elapse(100.0),
}
ONCE = {"approve": lambda world: len(world.wished("approvals")) > len(SMALL.approvals)}  # type: ignore[arg-type]


@contextmanager
def told_gates(world_of: Callable[[], World]) -> Iterator[None]:
    """The judge is another test's matter: here its word is an event."""
    asked, proofs = gates.asked, gates.proofs

    def say(s: object, status: SpinoutStatus) -> Iterator[Gate]:
        name = gates.SHADOW if status.mirror else gates.SUCCESS
        world = world_of()
        seen = world.verdict if world.counts and not status.blind_since else Verdict.INCONCLUSIVE
        yield Gate(name, str(seen), f"it is {seen}")

    def prove(s: object, status: SpinoutStatus) -> Iterator[tuple[str, Callable[[], Proven | None]]]:
        for name in (gates.SHADOW, gates.SUCCESS):
            yield name, lambda name=name: Proven(name, True, "seen")  # type: ignore[misc]

    gates.asked, gates.proofs = say, prove  # type: ignore[assignment]
    try:
        yield
    finally:
        gates.asked, gates.proofs = asked, proofs


class Broken(AssertionError):
    pass


@dataclass
class Found:
    states: int
    passes: int
    ends: int
    phases: frozenset[str]


def explore(states_max: int = 1_000_000, *, wrong_max: int = 2, check_ends_every: int = 25) -> Found:
    """States in which more than `wrong_max` things are wrong at once are not gone on from."""
    current: list[World] = []
    passes = ends = 0
    with told_gates(lambda: current[-1]):
        roots = list(good_way(current))
        seen: dict[Key, tuple[Key, str] | None] = {root.key(): None for root in roots}
        todo: deque[World] = deque(roots)
        phases = {root.state for root in roots}
        while todo and len(seen) < states_max:
            before = todo.popleft()
            for name, event in EVENTS.items():
                if name in ONCE and ONCE[name](before):
                    continue
                world = before.copied()
                current[:] = [world]
                event(world)
                after_event = world.copied()
                after_event.crashes = world.crashes
                world.look()
                passes += 1
                try:
                    check(after_event, world)
                except Broken as error:
                    raise Broken(f"{error}\n{path(seen, before.key(), name)}") from error
                wait = 0.0 if world.plan.wake_at is None else world.plan.wake_at - world.now
                world.elapse(min(max(wait, 0.06), 0.5))
                key = world.key()
                if key in seen or world.wrong() > wrong_max:
                    continue
                seen[key] = (before.key(), name)
                phases.add(world.state)
                if len(seen) % check_ends_every == 0:
                    ends += 1
                    try:
                        check_end(world.copied(), current)
                    except Broken as error:
                        raise Broken(f"{error}\n{path(seen, before.key(), name)}") from error
                if not world.finished:
                    todo.append(world)
    return Found(len(seen), passes, ends, frozenset(phases))


def good_way(current: list[World]) -> Iterator[World]:
    """A Spinout in each phase to which nothing bad has happened: from all of them it begins at once."""
    world = World(spec=SMALL)
    current[:] = [world]
    yield world.copied()
    while world.state != S.RETIRING:
        before = world.state
        world.step()
        if world.state != before:
            yield world.copied()


def path(seen: dict[Key, tuple[Key, str] | None], key: Key, last: str) -> str:
    words = [last]
    found = seen[key]
    while found is not None:
        words.append(found[1])
        found = seen[found[0]]
    return " -> ".join(reversed(words))


# -- invariants --------------------------------------------------------------------------------------------------------


def check(before: World, after: World) -> None:
    old, new, plan = before.status, after.status, after.plan
    rises = new.weight > old.weight
    if rises:
        check_rise(before, after)
    if new.step > old.step:
        promoted = int(str(before.wished("promoted"))) > old.step
        require(before.verdict is Verdict.PASS or promoted, "3: a step is left on a pass or a person's word alone")
    has_requests = max(old.weight, old.mirror) > 0
    fails = before.verdict is Verdict.FAIL and before.counts and not new.blind_since
    if has_requests and fails and old.is_bounded and before.state not in (S.ROLLING_BACK, S.ROLLED_BACK):
        if not before.parent.ready and max(old.weight, old.shown_weight):
            stays = after.state == S.HELD and new.weight == old.weight
            stopped = after.state == S.ROLLING_BACK and new.stopped_reason != "GateFailed"
            require(stays or stopped, "4: a guard sends nothing to a parent without an instance")
        else:
            at_once = after.state == S.ROLLING_BACK and new.weight == new.mirror == 0
            require(at_once, "4: a guard that fails goes back at once")
    if (before.wished("abort") or before.row.delete_at) and before.state not in OVER:
        require(after.state in BACK, "5: abort and delete are accepted in every phase")
        require(after.state == S.ABANDONED or new.weight == new.mirror == 0, "5: in one write")
    missing = before.verdict is not Verdict.FAIL and before.unit.ready and before.parent.ready and not before.unit.gone
    if missing and not (before.wished("abort") or before.row.delete_at) and before.state not in BACK:
        require(after.state not in BACK, "3: nothing goes back without a reason")
    for want in (*after.asked.values(), *after.plane.values()):
        safe = {route.path for route in SMALL.routes if route.is_safe}
        require(all(rule.path in safe for rule in want.rules if rule.mirrored), "7: only safe requests are copied")
    if after.state in (S.ROLLED_BACK, S.ABANDONED):
        mirror = after.in_force.mirror if after.in_force is not None else 0
        require(after.weight == 0 and mirror == 0, "5: back means that no request reaches the unit")
    if after.finished:
        require(not after.asked and not after.row.resources, "an end leaves nothing behind")
    if after.state == S.SWITCHED and before.state != S.SWITCHED:
        require(before.weight == WEIGHT_ALL, "switched means that all requests go there")
    check_records(before, after, plan)


def check_rise(before: World, after: World) -> None:
    old = before.status
    promoted = int(str(before.wished("promoted"))) > old.step
    # A step that was left while no instance could take its weight has passed already; nothing else may wait so.
    has_passed = before.state == S.RAMPING and SMALL.steps[old.step].weight != old.weight
    require(before.verdict is Verdict.PASS or before.state != S.SHADOWING, "3: shadowing is left on a pass alone")
    require(before.verdict is Verdict.PASS or promoted or has_passed, "3: rises on a pass alone")
    if old.weight or old.mirror:
        require(before.counts or promoted or old.weight == 0 == old.mirror, "3: never on missing data")
        # A step may wait for an instance after it passed; then it is judged no more.
        require(before.weight == old.weight or old.step_begun_at > 0, "3: never before the last weight was confirmed")
    require(not before.row.paused, "3: nothing rises while it is held")
    require(before.state in (S.RAMPING, S.SHADOWING, S.BASELINED), f"3: nothing rises in {before.state}")
    require(bool(before.unit.ready), "capacity: the unit has an instance")
    require((before.parent.ready or 0) >= SMALL.capacity_floor, "9: the parent keeps its floor")
    require(not before.wished("abort") and before.row.delete_at is None, "5: nothing rises after an abort")


def check_records(before: World, after: World, plan: Plan) -> None:
    kinds = [draft.kind for draft in plan.records]
    require((after.state != before.state) == ("transition" in kinds), "12: each transition is on record")
    moved = (after.status.weight, after.status.mirror) != (before.status.weight, before.status.mirror)
    new_attempt = after.state == S.SCAFFOLDED
    require(moved == ("weight" in kinds) or new_attempt, "12: each change of weight is on record")
    for draft in plan.records:
        body = json.loads(draft.body)
        require(body["config"] == after.status.config_digest != "", "12: with its configuration")
        if draft.kind == "transition":
            require((body["from"], body["to"]) == (before.state, after.state), "12: as it was")


def check_end(world: World, current: list[World]) -> None:
    """With a data plane that works every state has a way back, within the deadline."""
    if world.finished or world.state == S.COMPLETED:
        return
    current[:] = [world]
    world.counts, world.unit.gone = True, world.unit.gone
    _acks(world, True)
    if world.state != S.ROLLED_BACK:
        world.wish(abort="enough")
    begun = world.now
    for _ in range(40):
        if world.state in (S.ROLLED_BACK, S.ABANDONED):
            break
        world.step()
    ended = world.state in (S.ROLLED_BACK, S.ABANDONED)
    require(ended, f"5: an abort ends, this one is {world.state}: {world.plan.why}")
    require(world.now - begun <= SMALL.abort_deadline_seconds, "5: within its deadline")


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Broken(what)


if __name__ == "__main__":
    found = explore(wrong_max=int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(f"{found.states} states, {found.passes} passes, {found.ends} ways back; phases: {sorted(found.phases)}")
