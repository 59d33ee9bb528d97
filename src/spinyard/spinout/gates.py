"""What is judged at a step, and what each gate says. None of them decides on missing data."""

from __future__ import annotations

import math

from spinyard.core.figures import Gate, begun_between
from spinyard.core.observed import GaugeSample, LookGauge, LookJoin, LookShadow, ShadowFound, TraceJoin, Unknown
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spinout import Bound, LatencyGoal, ThresholdGate
from spinyard.core.verdict import (
    ALPHA_MIN,
    Counts,
    Evidence,
    Judgement,
    LatencyEvidence,
    QuantileGoal,
    QuantileLimit,
    Verdict,
    judge,
    judge_alone,
    judge_latency,
    judge_latency_alone,
    judge_split,
    of_cumulative,
)
from spinyard.spinout.measure import is_shown, margin_of
from spinyard.spinout.snapshot import SpinoutSnapshot
from spinyard.spinout.status import SpinoutStatus

STEP_REQUESTS_MIN = 20
"""on the unit's side, in each step that is compared, however sure the steps before have made us"""
SPLIT_ALPHA = 0.001
GOALS_MAX = 8
WAIVED = "waived"
SUCCESS, SPLIT, SHADOW, JOIN = "success rate", "traffic split", "shadow parity", "trace join"


def gates(s: SpinoutSnapshot, status: SpinoutStatus) -> tuple[Gate, ...]:
    """Everything that may stop this step, or send it back."""
    out: list[Gate] = []
    if status.mirror:
        out.append(shadow_gate(s, status))
    if status.weight:
        out.append(success_gate(s, status) if status.weight < WEIGHT_ALL else alone_gate(s, status))
        if status.weight < WEIGHT_ALL and not is_sticky(s):
            out += split_gate(status)
        out += latency_gates(s, status)
        if s.spec.gates.trace_join_min is not None:
            out.append(join_gate(s, status, s.spec.gates.trace_join_min))
        out += [threshold_gate(s, gate) for gate in s.spec.gates.thresholds]
    return tuple(waived(s, gate) for gate in out)


def waived(s: SpinoutSnapshot, gate: Gate) -> Gate:
    waiver = s.waiver(gate.name)
    if waiver is None or gate.verdict == Verdict.PASS:
        return gate
    why = f"waived by {waiver.actor}: {waiver.evidence[:200]}; it is {gate.verdict}: {gate.why}"
    return Gate(gate.name, WAIVED, why, None, gate.old, gate.new, gate.limit)


def holds_up(gate: Gate) -> bool:
    return gate.verdict not in (Verdict.PASS, WAIVED)


def is_sticky(s: SpinoutSnapshot) -> bool:
    """Then users are split, not requests: the shares say nothing."""
    return bool(s.spec.key.header or s.spec.key.cookie or s.spec.key.client_address)


def alpha_of(s: SpinoutSnapshot) -> float:
    return min(max(s.spec.gates.alpha, ALPHA_MIN), 0.5)


# -- success -----------------------------------------------------------------------------------------------------------


def success_gate(s: SpinoutSnapshot, status: SpinoutStatus) -> Gate:
    found = judge(status.evidence or Evidence(margin_of(s)), alpha=alpha_of(s))
    verdict, why, needs = found.verdict, found.why, found.needs
    if status.blind_since and verdict is Verdict.PASS:
        # What was good before says nothing of a side that cannot be seen now.
        verdict, why = Verdict.INCONCLUSIVE, f"no counters from the data plane; what was seen before: {why}"
    here = status.new.requests
    if verdict is Verdict.PASS and here < STEP_REQUESTS_MIN:
        needs = STEP_REQUESTS_MIN - here
        verdict, why = Verdict.INCONCLUSIVE, f"{why}; {here} of {STEP_REQUESTS_MIN} requests seen at this weight"
    old = 1.0 - found.old.rate if found.old.requests else None
    new = 1.0 - found.new.rate if found.new.requests else None
    return Gate(SUCCESS, str(verdict), why, needs, old, new, found.margin)


def alone_gate(s: SpinoutSnapshot, status: SpinoutStatus) -> Gate:
    """At full weight there is nobody to compare with at the same time: it is held against what the parent did before,
    and the margin. The parent's rate is an estimate, so the guarantee is as good as that."""
    margin = margin_of(s)
    before = status.baseline_counts + (status.evidence.old if status.evidence is not None else Counts())
    if status.blind_since or status.step_reading is None or not is_shown(status):
        why = "no counters from the data plane at full weight"
        return Gate(SUCCESS, str(Verdict.INCONCLUSIVE), why, limit=margin)
    new = Counts(status.new.requests, status.new.failures)
    verdict, needs = judge_alone(min(0.999, before.rate + margin), new, alpha=alpha_of(s))
    why = (
        f"at full weight {new.failures} of {new.requests} failed ({new.rate:.2%}); "
        f"the parent before: {before.failures} of {before.requests} ({before.rate:.2%}), margin {margin:.2%}"
    )
    old = 1.0 - before.rate if before.requests else None
    return Gate(SUCCESS, str(verdict), why, needs, old, 1.0 - new.rate if new.requests else None, margin)


def split_gate(status: SpinoutStatus) -> list[Gate]:
    """Requests that have begun: a slow side answers later, it does not get fewer. Only said when it is wrong."""
    reading, begun = status.reading, status.step_reading
    if reading is None or begun is None:
        return []
    old, new = begun_between(begun.old, reading.old), begun_between(begun.new, reading.new)
    wrong, _ = judge_split(status.weight / WEIGHT_ALL, old, new, alpha=SPLIT_ALPHA)
    if not wrong:
        return []
    share = new.requests / (old.requests + new.requests)
    asked = status.weight / WEIGHT_ALL
    why = f"{share:.1%} of the requests went to the unit, {asked:.1%} were asked for: the routing is wrong"
    return [Gate(SPLIT, str(Verdict.ERROR), why, old=None, new=share, limit=asked)]


# -- latency -----------------------------------------------------------------------------------------------------------


def latency_gates(s: SpinoutSnapshot, status: SpinoutStatus) -> list[Gate]:
    goals = s.spec.gates.latency[:GOALS_MAX]
    if not goals:
        return []
    evidence, alpha = status.latency or LatencyEvidence(), alpha_of(s)
    if evidence.step != status.weight_serial:
        # Of the step before: it proves nothing at this weight.
        evidence = LatencyEvidence(steps=evidence.steps, stretches=evidence.stretches)
    found: dict[int, list[Judgement]] = {}
    pairs = [(i, pair_goal(goal)) for i, goal in enumerate(goals) if is_compared(goal) and status.weight < WEIGHT_ALL]
    alone = [(i, limit) for i, goal in enumerate(goals) if (limit := alone_limit(goal, status)) is not None]
    judged = judge_latency(evidence, [goal for _, goal in pairs], alpha=alpha)
    judged_alone = judge_latency_alone(evidence, [limit for _, limit in alone], alpha=alpha)
    for (index, _), one in (*zip(pairs, judged, strict=True), *zip(alone, judged_alone, strict=True)):
        found.setdefault(index, []).append(one)
    return [latency_gate(goal, found.get(index, []), status) for index, goal in enumerate(goals)]


def latency_name(goal: LatencyGoal) -> str:
    return f"p{goal.quantile * 100:g} latency"


def is_compared(goal: LatencyGoal) -> bool:
    return goal.max_ratio is not None or goal.max_seconds_more > 0.0


def pair_goal(goal: LatencyGoal) -> QuantileGoal:
    margin = max(0.0, (goal.max_ratio or 1.0) - 1.0)
    return QuantileGoal(goal.quantile, margin, max(goal.max_seconds_more * 1000.0, 0.0 if margin else 1.0))


def alone_limit(goal: LatencyGoal, status: SpinoutStatus) -> QuantileLimit | None:
    """A limit of its own, and at full weight what the parent needed before."""
    limits = [goal.max_seconds * 1000.0] if goal.max_seconds is not None else []
    if status.weight >= WEIGHT_ALL and is_compared(goal):
        before = of_cumulative([(bound * 1000.0, count) for bound, count in status.baseline_latency])
        bucket = before.bucket_of(goal.quantile)
        if bucket is not None and bucket[1] is not None:
            limits.append(pair_goal(goal).limit.of(bucket[1]))
    return QuantileLimit(goal.quantile, max(min(limits), 1e-3)) if limits else None


def latency_gate(goal: LatencyGoal, found: list[Judgement], status: SpinoutStatus) -> Gate:
    name = latency_name(goal)
    if not found:
        why = "there is nothing to compare with: the parent's latency was not measured before"
        return Gate(name, str(Verdict.INCONCLUSIVE), why)
    worst = min(found, key=lambda one: SEVERITY[one.verdict])
    verdict, why = worst.verdict, worst.why
    if status.blind_since and verdict is Verdict.PASS:
        verdict, why = Verdict.INCONCLUSIVE, f"no counters from the data plane; what was seen before: {why}"
    old, new, limit = (None if v is None else v / 1000.0 for v in (worst.value_old, worst.value_new, worst.limit))
    return Gate(name, str(verdict), why, worst.needs, old, new, limit)


SEVERITY = {Verdict.FAIL: 0, Verdict.ERROR: 1, Verdict.INCONCLUSIVE: 2, Verdict.PASS: 3}


# -- figures from elsewhere --------------------------------------------------------------------------------------------


def shadow_look(s: SpinoutSnapshot, status: SpinoutStatus) -> LookShadow:
    return LookShadow(s.base_cluster, status.step_begun_at)


def join_look(s: SpinoutSnapshot, status: SpinoutStatus) -> LookJoin:
    return LookJoin(s.new_cluster, status.step_begun_at, s.spec.unit)


def shadow_gate(s: SpinoutSnapshot, status: SpinoutStatus) -> Gate:
    shadow = s.spec.shadow
    limit = shadow.different_max
    answer = s.seen.answers.get(shadow_look(s, s.stored))
    if not isinstance(answer, ShadowFound) or not is_shown(status) or not s.stored.step_begun_at:
        why = answer.why if isinstance(answer, Unknown) else "nothing has been compared yet"
        return Gate(SHADOW, str(Verdict.INCONCLUSIVE), why, limit=limit)
    bad = answer.different + answer.errors
    share = bad / answer.compared if answer.compared > 0 else 0.0
    few = shadow.compared_min - answer.compared
    why = f"{answer.different} of {answer.compared} answers differ, {answer.errors} could not be had"
    if answer.fields:
        why += ": " + ", ".join(f"{name} {count} times" for name, count in answer.fields[:3])
    if few > 0:
        return Gate(SHADOW, str(Verdict.INCONCLUSIVE), why, few, None, share, limit)
    verdict = Verdict.FAIL if share > limit else Verdict.PASS
    return Gate(SHADOW, str(verdict), why, None, None, share, limit)


def join_gate(s: SpinoutSnapshot, status: SpinoutStatus, wanted: float) -> Gate:
    answer = s.seen.answers.get(join_look(s, s.stored))
    if not isinstance(answer, TraceJoin) or not is_shown(status) or not s.stored.step_begun_at:
        why = answer.why if isinstance(answer, Unknown) else "no traces yet"
        return Gate(JOIN, str(Verdict.INCONCLUSIVE), why, limit=wanted)
    total = answer.joined + answer.broken
    limit = min(max(1.0 - wanted, 1e-6), 0.999)
    verdict, needs = judge_alone(limit, Counts(total, answer.broken), alpha=alpha_of(s))
    share = answer.joined / total if total > 0 else None
    why = f"{answer.joined} of {total} traces are whole, at least {wanted:.1%} are asked for"
    if answer.samples:
        why += f"; not whole: {', '.join(answer.samples[:3])}"
    return Gate(JOIN, str(verdict), why, needs, None, share, wanted)


def threshold_gate(s: SpinoutSnapshot, gate: ThresholdGate) -> Gate:
    answer = s.seen.answers.get(LookGauge(gate.url, gate.query))
    if not isinstance(answer, GaugeSample):
        why = answer.why if isinstance(answer, Unknown) else "not read yet"
        return Gate(gate.name, str(Verdict.INCONCLUSIVE), why, limit=gate.limit)
    age = s.now - answer.at
    if not math.isfinite(answer.value):
        return Gate(gate.name, str(Verdict.INCONCLUSIVE), "the figure is not a number", limit=gate.limit)
    if age > gate.stale_seconds:
        why = f"the figure is older than {gate.stale_seconds:g} s"
        return Gate(gate.name, str(Verdict.INCONCLUSIVE), why, new=answer.value, limit=gate.limit)
    is_max = gate.bound is Bound.MAX
    is_bad = answer.value > gate.limit if is_max else answer.value < gate.limit
    why = f"{answer.value:g}, {'at most' if is_max else 'at least'} {gate.limit:g} is asked for"
    return Gate(gate.name, str(Verdict.FAIL if is_bad else Verdict.PASS), why, None, None, answer.value, gate.limit)
