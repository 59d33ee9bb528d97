"""What is told of a Rollout before and while it runs: its forecast, and why it is where it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from spinyard.core.figures import Gate, SideFigures
from spinyard.core.ids import Digest, Uid
from spinyard.core.row import ObjectRow
from spinyard.core.spec import (
    Analysis,
    Gauge,
    GaugeLimit,
    Kind,
    LatencyLimit,
    RolloutSpec,
    RolloutStep,
    RolloutStrategy,
)
from spinyard.core.verdict import Counts, Evidence, Increment, Verdict, fold, judge_alone
from spinyard.errors import Conflict, NotFound
from spinyard.ports.store import StoredObject
from spinyard.spin.rollout.snapshot import RolloutSnapshot
from spinyard.spin.rollout.status import RolloutStatus, StepRecord
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.explain import Explanation, Facts, Who, explain
from spinyard.usecases.rollout_plan import Planned, forecast, instances_for, plan_rollout, requests_needed
from spinyard.usecases.views import ObjectView, status_of
from tests.usecases.test_plan_and_apply import Yard, yard
from tests.usecases.test_rollouts import OLD, STRATEGY, running, stored, up, web

__all__ = ["yard"]

WEB = ObjectId(Kind.SERVICE, "default", "web")
STEPS = (RolloutStep(1000, 5.0), RolloutStep(5000), RolloutStep(10_000))


def planned(strategy: RolloutStrategy, replicas: int = 4) -> Planned:
    return Planned(WEB, strategy, replicas, "d", "", ())


# -- plan --------------------------------------------------------------------------------------------------------------


def test_a_forecast_tells_instances_requests_and_time_of_each_step() -> None:
    found = forecast(planned(RolloutStrategy(steps=STEPS, soak_seconds=30.0)), per_second=100.0)
    assert [step.instances for step in found.steps] == [1, 2, 4]
    first, second, last = (step.requests for step in found.steps)
    assert first is not None and second is not None and last is not None
    assert 40 <= first <= 400, "a judge that passes a clean canary of 10 % at margin 5 points"
    assert 20 <= second <= first, "evidence accumulates; some are wanted at each weight"
    assert 50 <= last <= 200, "at full weight it is held against what the old side did before"
    assert judge_alone(0.05, Counts(last), alpha=0.05)[0] is Verdict.PASS
    assert judge_alone(0.05, Counts(last - 1), alpha=0.05)[0] is Verdict.INCONCLUSIVE
    seconds = [max(5.0, first / 10.0), second / 50.0, 30.0]
    assert [step.seconds for step in found.steps] == seconds
    assert found.seconds == sum(seconds)


@pytest.mark.parametrize("per_second", [None, 0.0])
def test_without_traffic_the_time_is_not_known(per_second: float | None) -> None:
    assert forecast(planned(RolloutStrategy(steps=STEPS)), per_second).seconds is None


def test_a_step_that_waits_for_a_person_has_no_time_and_one_without_a_judge_only_its_own() -> None:
    waits = RolloutStrategy(steps=(RolloutStep(1000, wait=True), RolloutStep(10_000)))
    first, last = forecast(planned(waits), 100.0).steps
    assert (first.seconds, last.requests is not None and last.seconds == last.requests / 100.0) == (None, True)
    by_time = RolloutStrategy(steps=STEPS, analysis=Analysis(enabled=False))
    assert forecast(planned(by_time), None).seconds == 5.0


def test_other_gates_want_requests_too() -> None:
    latency = LatencyLimit(0.95, max_seconds=1.0, min_requests=3000)
    gauges = (GaugeLimit(Gauge.FAILURE_RATE, 0.1),)
    assert requests_needed(Analysis(latency=(latency,)), (5000, 10_000)) == (3000, 3000)
    assert requests_needed(Analysis(gauges=gauges, enabled=False), (10_000,)) == (50,)
    assert requests_needed(Analysis(margin=0.0001, alpha=0.0001), (5000, 10_000)) == (None, None)


def test_the_forecast_asks_for_the_instances_that_the_rollout_asks_for() -> None:
    for strategy in (STRATEGY, replace(STRATEGY, blue_green=True)):
        for replicas in (1, 3, 10):
            for weight in (1, 1000, 3334, 10_000):
                row = ObjectRow(Uid("u"), Kind.ROLLOUT, "default", "r", ROLLOUT, b"", "judging", 1.0)

                class Fixed(RolloutSnapshot):
                    replicas = 0

                Fixed.replicas = replicas
                snapshot = Fixed(row, replace(ROLLOUT, strategy=strategy), RolloutStatus(), Any, 1.0)  # type: ignore[arg-type]
                assert instances_for(strategy, replicas, weight) == snapshot.instances(weight)


def test_a_plan_is_of_the_service_and_of_the_rollout_that_runs(yard: Yard) -> None:
    up(yard)
    found = yard.run(lambda tx: plan_rollout(tx, "default", "web"))
    assert (found.service, found.replicas, found.strategy, found.running) == (WEB, 2, STRATEGY, "")
    assert len(found.clusters) == 1
    uid = stored(yard).row.uid
    assert found.clusters[0] == f"default/web/{uid[:8]}"


def test_a_plan_beside_a_running_rollout_names_it_and_counts_both_sides(yard: Yard) -> None:
    rollout = running(yard)
    seq = yard.store.commit_seq()
    for name in ("web", rollout.row.name):
        found = yard.run(lambda tx, name=name: plan_rollout(tx, "default", name))  # type: ignore[misc]
        assert (found.service, found.running, len(found.clusters)) == (WEB, rollout.row.name, 2)
    assert yard.store.commit_seq() == seq


def test_a_plan_needs_a_strategy_and_a_service(yard: Yard) -> None:
    up(yard, web(OLD, strategy=None))
    with pytest.raises(Conflict) as caught:
        yard.run(lambda tx: plan_rollout(tx, "default", "web"))
    assert caught.value.code == "no_strategy"
    with pytest.raises(NotFound):
        yard.run(lambda tx: plan_rollout(tx, "default", "other"))


# -- explain -----------------------------------------------------------------------------------------------------------

ROLLOUT = RolloutSpec("web", "uid-web", template_digest=Digest("new"), old_digest=Digest("old"), strategy=STRATEGY)


def told(
    state: str, status: RolloutStatus | None = None, *, paused: bool = False, spec: RolloutSpec = ROLLOUT
) -> Explanation:
    blob = msgspec.json.encode(status or RolloutStatus())
    row = ObjectRow(Uid("u"), Kind.ROLLOUT, "default", "web-1", spec, blob, state, 1.0, paused=paused)
    finished = 9.0 if state in ("succeeded", "rolled_back") else None
    found = StoredObject(row, {}, f"It is {state}.", "Reason", 42.0, finished_at=finished)
    return explain(Facts(ObjectView(found, None, status_of(found)), 1000.0))


def test_a_judging_rollout_shows_its_gates_with_numbers_bound_and_n() -> None:
    evidence = fold(Evidence(0.05), Increment(1, Counts(900, 9), Counts(100, 1)))
    gate = Gate("success rate", "inconclusive", "not decided", 120, 0.99, 0.985, 0.05)
    record = StepRecord(
        500, 10.0, 40.0, "passed", "all good", SideFigures(requests=90), SideFigures(requests=10, failures=1)
    )
    status = RolloutStatus(
        step=1,
        weight=1000,
        shown_weight=500,
        evidence=evidence,
        gates=(gate,),
        needs="120 more",
        steps=(record,),
        new=SideFigures(requests=100, failures=1, low=0.94, high=0.99, p95=0.2, ready=1, alive=2),
    )
    found = told("judging", status)
    assert (found.who, found.cause, found.next_try_at) == (Who.NOBODY, "It is judging.", 42.0)
    assert "120 more" in found.next_step
    text = {e.source: e.text for e in found.evidence}
    assert "step 2 of 2: 5 % of the requests" in text["rollout"] and "10 % is asked for" in text["rollout"]
    assert "inconclusive" in text["gate"] and "about 120 more requests" in text["gate"] and "limit 0.05" in text["gate"]
    assert "n = 100 new (1 failed) against 900 old (9 failed)" in text["judge"] and "bound 3.00" in text["judge"]
    assert "99.00% good (95 %: 94.00% to 99.00%)" in text["figures"] and "p95 200 ms" in text["figures"]
    assert text["step"] == "5 % passed after 30 s: new 1 of 10 failed, old 0 of 90; all good"


@pytest.mark.parametrize(
    "state, status, paused, who, words",
    [
        ("rolled_back", RolloutStatus(stopped="success rate: worse", stopped_reason="GateFailed"), False, Who.USER,
         "Correct the new version"),
        ("rolled_back", RolloutStatus(stopped="aborted", stopped_reason="Aborted"), False, Who.NOBODY, "asked for it"),
        ("retreating", RolloutStatus(stopped="x", stopped_reason="GateFailed"), False, Who.USER, "by itself"),
        ("succeeded", RolloutStatus(), False, Who.NOBODY, "spinyard rollout rollback web-1"),
        ("judging", RolloutStatus(), True, Who.USER, "spinyard rollout resume web-1"),
        ("pending", RolloutStatus(), False, Who.NOBODY, "spinyard explain service/web"),
        ("promoting", RolloutStatus(), False, Who.NOBODY, "old instances go"),
    ],
)  # fmt: skip
def test_each_end_and_each_wait_has_its_next_step(
    state: str, status: RolloutStatus, paused: bool, who: Who, words: str
) -> None:
    found = told(state, status, paused=paused)
    assert found.who is who
    assert words in found.next_step
    assert status.stopped in found.cause


def test_one_that_waits_for_a_person_says_how_to_promote_it() -> None:
    spec = replace(ROLLOUT, strategy=RolloutStrategy(steps=(RolloutStep(1000, wait=True), RolloutStep(10_000))))
    found = told("judging", spec=spec)
    assert (found.who, "spinyard rollout promote web-1" in found.next_step) == (Who.USER, True)
    assert told("judging", spec=replace(spec, promoted=1)).who is Who.NOBODY


def test_a_status_of_a_newer_version_is_no_error() -> None:
    row = ObjectRow(Uid("u"), Kind.ROLLOUT, "default", "web-1", ROLLOUT, b'{"step":"later"}', "judging", 1.0)
    found = StoredObject(row, {}, "It goes on.", "Reason", None)
    assert explain(Facts(ObjectView(found, None, status_of(found)), 1000.0)).cause == "It goes on."
