"""Whatever a Spinout remembers and whatever is seen, it decides something legal and says why."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from spinyard.core.observed import (
    Absent,
    Answer,
    BoundaryFacts,
    ClusterTraffic,
    GaugeSample,
    Held,
    Look,
    LookGauge,
    LookHold,
    LookJoin,
    LookPeer,
    LookResource,
    LookShadow,
    LookTraffic,
    Present,
    Seen,
    ShadowFound,
    TraceJoin,
    Traffic,
    Unknown,
)
from spinyard.core.plan import Plan, Resource
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spinout import Inconclusive, LatencyGoal, Objective, SpinoutGates, ThresholdGate
from spinyard.spinout.decide import SpinoutDomain
from spinyard.spinout.snapshot import PROXY
from spinyard.spinout.status import TRANSITIONS, SpinoutState, SpinoutStatus
from tests.spinout.worlds import BUCKETS, NOW, SPEC, Yard

DOMAIN = SpinoutDomain()
WEIGHTS = st.sampled_from([0, 1000, 5000, WEIGHT_ALL])
TIMES = st.sampled_from([0.0, NOW - 1e6, NOW - 5.0, NOW, NOW + 5.0])
GATES = SpinoutGates(
    latency=(LatencyGoal(0.95, 1.5, 0.0, 0.3),),
    objective=Objective(0.99, 3600.0),
    trace_join_min=0.9,
    thresholds=(ThresholdGate("depth", "http://p", "q", 5.0),),
)


def unknown_or(*answers: Answer) -> st.SearchStrategy[Answer]:
    return st.sampled_from([Unknown("nothing"), None, *answers])


@st.composite
def statuses(draw: st.DrawFn) -> SpinoutStatus:
    serial = draw(st.integers(0, 3))
    return SpinoutStatus(
        since=draw(TIMES),
        attempt=draw(st.integers(0, 2)),
        step=draw(st.integers(0, 4)),
        weight=draw(WEIGHTS),
        mirror=draw(st.sampled_from([0, WEIGHT_ALL])),
        shown_weight=draw(WEIGHTS),
        shown_serial=draw(st.integers(0, serial)),
        serial=serial,
        weight_serial=draw(st.integers(0, serial)),
        highest=draw(WEIGHTS),
        is_bounded=draw(st.booleans()),
        held_from=draw(st.sampled_from(["", "ramping", "soaking", "shadowing"])),
        held_reason=draw(st.sampled_from(["", "Inconclusive", "Paused"])),
        step_begun_at=draw(TIMES),
        progressed_at=draw(TIMES),
        missing_since=draw(TIMES),
        blind_since=draw(TIMES),
        stopped_reason=draw(st.sampled_from(["", "Aborted", "Deleted", "NoGo"])),
    )


def traffic(draw: st.DrawFn, clusters: tuple[str, ...]) -> Traffic:
    def side() -> ClusterTraffic:
        requests = draw(st.integers(-3, 1000))
        return ClusterTraffic(requests, draw(st.integers(-3, 1000)), 0, tuple((b, requests) for b in BUCKETS))

    return Traffic(draw(st.sampled_from(["1", "2"])), draw(TIMES), {name: side() for name in clusters})


@st.composite
def situations(draw: st.DrawFn) -> Plan:
    yard = Yard()
    status, state = draw(statuses()), draw(st.sampled_from(list(SpinoutState)))
    spec = replace(
        SPEC,
        gates=GATES,
        abort=draw(st.sampled_from(["", "enough"])),
        started=draw(st.integers(0, 3)),
        promoted=draw(st.integers(0, 3)),
        promoted_fully=draw(st.booleans()),
        inconclusive=draw(st.sampled_from(list(Inconclusive))),
        deadline_seconds=draw(st.sampled_from([1.0, 1e6])),
    )
    row = replace(
        yard.row,
        spec=spec,
        state=str(state),
        status=msgspec.json.encode(status),
        paused=draw(st.booleans()),
        delete_at=draw(st.sampled_from([None, NOW])),
        force=draw(st.booleans()),
    )
    if draw(st.booleans()):
        snapshot = DOMAIN._snapshot(row, Seen(), NOW)
        wanted = draw(st.booleans())
        kept = Resource(snapshot.key, row.uid, PROXY, "boundary", wanted, snapshot.want(status))
        row = replace(row, resources=(kept,))

    def answer(look: Look) -> Answer:
        match look:
            case LookPeer(uid=uid):
                side = yard.parent if uid == yard.parent.uid else yard.unit
                side.ready = draw(st.integers(0, 3))
                return draw(st.sampled_from([side.peer(), None]))
            case LookHold():
                return draw(st.sampled_from([None, Held("everything", "why", "ann", NOW)]))
            case LookResource():
                want = row.resources[0].stored_want if row.resources else None
                facts = BoundaryFacts(draw(st.booleans()), draw(st.sampled_from(["", "no"])), want)  # type: ignore[arg-type]
                return draw(unknown_or(Absent(), Present(facts)))
            case LookTraffic(clusters=clusters):
                return draw(st.one_of(unknown_or(), st.just(traffic(draw, clusters))))
            case LookShadow():
                return draw(unknown_or(ShadowFound(0, 0), ShadowFound(100, 0), ShadowFound(100, 50, 5)))
            case LookJoin():
                return draw(unknown_or(TraceJoin(0, 0), TraceJoin(100, 0), TraceJoin(0, 100, ("t",))))
            case LookGauge():
                return draw(unknown_or(GaugeSample(1.0, NOW), GaugeSample(9.0, NOW), GaugeSample(float("nan"), NOW)))
            case _:
                raise AssertionError(look)

    looks = DOMAIN.looks(row, NOW)
    assert len(looks) == len(set(looks))
    plan = DOMAIN.decide(row, Seen({look: answer(look) for look in looks}), NOW)
    assert TRANSITIONS.may(row.state, plan.state), f"{row.state} -> {plan.state}"
    after = msgspec.json.decode(plan.status, type=SpinoutStatus)
    if row.paused or spec.abort or row.delete_at is not None:
        assert after.weight <= status.weight, "nothing rises that a person stopped"
    assert (plan.state != row.state) == any(draft.kind == "transition" for draft in plan.records)
    return plan


@settings(max_examples=150, deadline=None)
@given(situations())
def test_every_situation_has_a_plan_that_says_why(plan: Plan) -> None:
    assert plan.why.strip() and plan.reason.strip()
    ended = plan.state in TRANSITIONS.terminal
    assert plan.wake_at is not None or ended
    assert plan.wake_at is None or plan.wake_at >= NOW
    assert all(len(draft.body) < 65_536 for draft in plan.records)


def test_every_state_is_reachable_and_reaches_an_end() -> None:
    reached = TRANSITIONS.reachable()
    assert reached == {str(state) for state in SpinoutState}
    for state in reached:
        todo, seen = [state], {state}
        while todo:
            for following in TRANSITIONS.edges.get(todo.pop(), frozenset()):
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        assert seen & TRANSITIONS.terminal, state
