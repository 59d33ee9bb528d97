"""What is judged at a step, and what each gate says. None of them decides on missing data, and none passes that has not
been seen to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from spinyard.core.figures import Gate, begun_between
from spinyard.core.observed import GaugeSample, LookGauge, LookJoin, LookShadow, ShadowFound, TraceJoin, Unknown
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spinout import LatencyGoal, Objective, ThresholdGate
from spinyard.core.verdict import (
    Counts,
    Evidence,
    Judgement,
    LatencyEvidence,
    QuantileLimit,
    Verdict,
    judge,
    judge_lately,
    judge_latency,
    judge_latency_alone,
    judge_split,
    of_cumulative,
)
from spinyard.core.verdict.burn import judge_burn, unpack
from spinyard.core.verdict.gate import (
    BurnGate,
    CanFail,
    FigureGate,
    LatencyGate,
    LatencyLimitGate,
    ShareGate,
    SuccessGate,
)
from spinyard.core.verdict.threshold import Sample, judge_share, judge_threshold
from spinyard.spinout.lately import lately
from spinyard.spinout.measure import alone_limit, alpha_of, before_of, burn_objective, is_shown, margin_of
from spinyard.spinout.proofs import (
    AloneGate,
    ParityGate,
    pair_goal,
    parity_verdict,
    threshold_of,
    tried,
    with_proof,
)
from spinyard.spinout.snapshot import SpinoutSnapshot
from spinyard.spinout.stalled import stalled_gates
from spinyard.spinout.status import Proven, SpinoutStatus

STEP_REQUESTS_MIN = 20
"""on the unit's side, in each step that is compared, however sure the steps before have made us"""
SPLIT_ALPHA = 0.001
GOALS_MAX = 8
WAIVED = "waived"
SUCCESS, SPLIT, SHADOW, JOIN, BURN = "success rate", "traffic split", "shadow parity", "trace join", "burn rate"
SEVERITY = {Verdict.FAIL: 0, Verdict.ERROR: 1, Verdict.INCONCLUSIVE: 2, Verdict.PASS: 3}


def judged(s: SpinoutSnapshot, status: SpinoutStatus) -> SpinoutStatus:
    """With what each gate says now: everything that may stop this step, or send it back."""
    if not status.weight and not status.mirror:
        return msgspec.structs.replace(status, gates=()) if status.gates else status
    status = with_proofs(s, status)
    found = tuple(waived(s, with_proof(gate, status.proofs)) for gate in asked(s, status))
    return msgspec.structs.replace(status, gates=found)


def asked(s: SpinoutSnapshot, status: SpinoutStatus) -> Iterator[Gate]:
    wanted = s.spec.gates
    if status.mirror:
        yield shadow_gate(s, status)
    if not status.weight:
        return
    is_alone = status.weight >= WEIGHT_ALL
    yield safely(SUCCESS, partial(alone_gate if is_alone else success_gate, s, status))
    if not is_alone and not is_sticky(s):
        yield from split_gate(status)
    yield from stalled_gates(s, status)
    yield from latency_gates(s, status)
    if wanted.objective is not None:
        yield safely(BURN, partial(burn_gate, s, status, wanted.objective))
    if wanted.trace_join_min is not None:
        yield safely(JOIN, partial(join_gate, s, status, wanted.trace_join_min))
    for threshold in wanted.thresholds:
        yield safely(threshold.name, partial(threshold_gate, s, threshold))


def safely(name: str, gate: Callable[[], Gate]) -> Gate:
    """What no file says can still be stored: a configuration that cannot be judged never passes."""
    try:
        return gate()
    except ValueError as error:
        return Gate(name, str(Verdict.ERROR), f"it cannot be judged: {error}")


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


# -- that they can fail ------------------------------------------------------------------------------------------------


def with_proofs(s: SpinoutSnapshot, status: SpinoutStatus) -> SpinoutStatus:
    """Tried once for each configuration and each side of full weight; on latency when its bounds are known."""
    stage = "alone" if status.weight >= WEIGHT_ALL else "pair"
    digest = f"{status.config_digest} {stage}"
    known = status.proofs if status.proofs_digest == digest else ()
    names = {one.name for one in known}
    fresh = [one for name, prove in proofs(s, status) if name not in names and (one := prove()) is not None]
    if not fresh and status.proofs_digest == digest:
        return status
    return msgspec.structs.replace(status, proofs=(*known, *fresh), proofs_digest=digest)


def proofs(s: SpinoutSnapshot, status: SpinoutStatus) -> Iterator[tuple[str, Callable[[], Proven | None]]]:
    wanted, alpha = s.spec.gates, alpha_of(s)
    if status.mirror:
        yield SHADOW, partial(tried, SHADOW, partial(ParityGate, s.spec.shadow.different_max))
    if not status.weight:
        return
    if status.weight < WEIGHT_ALL:
        yield SUCCESS, partial(tried, SUCCESS, partial(SuccessGate, margin_of(s), alpha))
    else:
        yield SUCCESS, partial(tried, SUCCESS, partial(AloneGate, alone_limit(s, status), alpha))
    for goal in wanted.latency[:GOALS_MAX]:
        yield latency_name(goal), partial(prove_latency, s, status, goal)
    if wanted.objective is not None:
        yield BURN, partial(tried, BURN, partial(burn_probe, wanted.objective))
    if wanted.trace_join_min is not None:
        yield JOIN, partial(tried, JOIN, partial(ShareGate, clamped(wanted.trace_join_min), alpha))
    for gate in wanted.thresholds:
        yield gate.name, partial(tried, gate.name, partial(figure_probe, gate))


def burn_probe(objective: Objective) -> CanFail:
    return BurnGate(burn_objective(objective))


def figure_probe(gate: ThresholdGate) -> CanFail:
    return FigureGate(threshold_of(gate))


def prove_latency(s: SpinoutSnapshot, status: SpinoutStatus, goal: LatencyGoal) -> Proven | None:
    """None: not yet, there are no bounds. Of both ways in which it may fail, if it has both."""
    bounds = status.latency.bounds_ms if status.latency is not None else ()
    if not bounds:
        return None
    name, alpha, found = latency_name(goal), alpha_of(s), []
    if is_compared(goal) and status.weight < WEIGHT_ALL:
        found.append(tried(name, lambda: LatencyGate((pair_goal(goal),), alpha, bounds)))
    limit = latency_limit(goal, status)
    if limit is not None:
        found.append(tried(name, lambda: LatencyLimitGate((limit,), alpha, bounds)))
    return next((one for one in found if not one.ok), found[0] if found else None)


# -- success -----------------------------------------------------------------------------------------------------------


def success_gate(s: SpinoutSnapshot, status: SpinoutStatus) -> Gate:
    found = judge(status.evidence or Evidence(margin_of(s)), alpha=alpha_of(s))
    verdict, why, needs = found.verdict, found.why, found.needs
    verdict, why = unless_blind(status, verdict, why)
    here = status.new.requests
    if verdict is Verdict.PASS and here < STEP_REQUESTS_MIN:
        needs = STEP_REQUESTS_MIN - here
        verdict, why = Verdict.INCONCLUSIVE, f"{why}; {here} of {STEP_REQUESTS_MIN} requests seen at this weight"
    old = 1.0 - found.old.rate if found.old.requests else None
    new = 1.0 - found.new.rate if found.new.requests else None
    return Gate(SUCCESS, str(verdict), why, needs, old, new, found.margin)


def unless_blind(status: SpinoutStatus, verdict: Verdict, why: str) -> tuple[Verdict, str]:
    """What was good before says nothing of a side that cannot be seen now."""
    if not status.blind_since or verdict is not Verdict.PASS:
        return verdict, why
    return Verdict.INCONCLUSIVE, f"no counters from the data plane; what was seen before: {why}"


def alone_gate(s: SpinoutSnapshot, status: SpinoutStatus) -> Gate:
    """At full weight there is nobody to compare with at the same time: it is held against what the parent did before,
    and the margin. The parent's rate is an estimate, so the guarantee is as good as that."""
    margin, before = margin_of(s), before_of(status)
    if status.blind_since or status.step_reading is None or not is_shown(status):
        why = "no counters from the data plane at full weight"
        return Gate(SUCCESS, str(Verdict.INCONCLUSIVE), why, limit=margin)
    new = Counts(status.new.requests, status.new.failures)
    recent, nth = lately(status), max(0, status.stretches - 1)
    verdict, needs, is_recent = judge_lately(alone_limit(s, status), new, recent, nth, alpha=alpha_of(s))
    why = (
        f"at full weight {new.failures} of {new.requests} failed ({new.rate:.2%}); "
        f"the parent before: {before.failures} of {before.requests} ({before.rate:.2%}), margin {margin:.2%}"
    )
    if is_recent:
        why = f"lately {recent.failures} of {recent.requests} failed; {why}"
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
    share, wanted = new.requests / (old.requests + new.requests), status.weight / WEIGHT_ALL
    why = f"{share:.1%} of the requests went to the unit, {wanted:.1%} were asked for: the routing is wrong, or"
    why += " users went away before they were answered"
    return [Gate(SPLIT, str(Verdict.ERROR), why, old=None, new=share, limit=wanted)]


def burn_gate(s: SpinoutSnapshot, status: SpinoutStatus, objective: Objective) -> Gate:
    """Of the unit's requests. No data counts as an outage there, but by missing data nothing rises and nothing goes
    back; and what the parent does alike is no fault of the unit's."""
    wanted = burn_objective(objective)
    found = judge_burn(unpack(status.burn), wanted, now=s.now, since=status.step_begun_at)
    verdict, why = found.verdict, found.why
    if verdict is Verdict.FAIL and found.missing:
        verdict = Verdict.INCONCLUSIVE
    old = status.old
    if verdict is Verdict.FAIL and old.requests >= STEP_REQUESTS_MIN and status.weight < WEIGHT_ALL:
        rate = old.failures / old.requests / (1.0 - wanted.target)
        if found.limit is not None and rate > found.limit:
            verdict, why = Verdict.INCONCLUSIVE, f"both sides fail: the parent {rate:.3g} times as fast; {why}"
    if found.missing:
        # How long there was none changes with every look: nothing is written for that.
        why = f"it needs {found.missing}"
    verdict, why = unless_blind(status, verdict, why)
    return Gate(BURN, str(verdict), why, found.needs, None, found.value_new, found.limit)


# -- latency -----------------------------------------------------------------------------------------------------------


def latency_name(goal: LatencyGoal) -> str:
    return f"p{goal.quantile * 100:g} latency"


def is_compared(goal: LatencyGoal) -> bool:
    return goal.max_ratio is not None or goal.max_seconds_more > 0.0


def latency_limit(goal: LatencyGoal, status: SpinoutStatus) -> QuantileLimit | None:
    """A limit of its own, and at full weight what the parent needed before."""
    limits = [goal.max_seconds * 1000.0] if goal.max_seconds is not None else []
    if status.weight >= WEIGHT_ALL and is_compared(goal):
        before = of_cumulative([(bound * 1000.0, count) for bound, count in status.baseline_latency])
        bucket = before.bucket_of(goal.quantile)
        if bucket is not None and bucket[1] is not None:
            limits.append(pair_goal(goal).limit.of(bucket[1]))
    return QuantileLimit(goal.quantile, max(min(limits), 1e-3)) if limits else None


def latency_gates(s: SpinoutSnapshot, status: SpinoutStatus) -> Iterator[Gate]:
    """Judged together: all of them are wrong at most as often as one may be."""
    goals = s.spec.gates.latency[:GOALS_MAX]
    if not goals:
        return
    evidence = status.latency or LatencyEvidence()
    if evidence.step != status.weight_serial:
        # Of the step before: it proves nothing at this weight.
        evidence = LatencyEvidence(steps=evidence.steps, stretches=evidence.stretches)
    try:
        pairs = [goal for goal in goals if is_compared(goal) and status.weight < WEIGHT_ALL]
        limits = [(goal, limit) for goal in goals if (limit := latency_limit(goal, status)) is not None]
        judged = judge_latency(evidence, [pair_goal(goal) for goal in pairs], alpha=alpha_of(s))
        alone = judge_latency_alone(evidence, [limit for _, limit in limits], alpha=alpha_of(s))
    except ValueError as error:
        yield from (Gate(latency_name(g), str(Verdict.ERROR), f"it cannot be judged: {error}") for g in goals)
        return
    for goal in goals:
        found = [one for other, one in zip(pairs, judged, strict=True) if other is goal]
        found += [one for (other, _), one in zip(limits, alone, strict=True) if other is goal]
        yield latency_gate(latency_name(goal), found, status)


def latency_gate(name: str, found: list[Judgement], status: SpinoutStatus) -> Gate:
    if not found:
        why = "there is nothing to compare with: the parent's latency was not measured before"
        return Gate(name, str(Verdict.INCONCLUSIVE), why)
    worst = min(found, key=lambda one: SEVERITY[one.verdict])
    verdict, why = unless_blind(status, worst.verdict, worst.why)
    old, new, bound = (None if v is None else v / 1000.0 for v in (worst.value_old, worst.value_new, worst.limit))
    return Gate(name, str(verdict), why, worst.needs, old, new, bound)


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
    few = max(1, shadow.compared_min) - answer.compared
    why = f"{answer.different} of {answer.compared} answers differ, {answer.errors} could not be had"
    if answer.fields:
        why += ": " + ", ".join(f"{name} {count} times" for name, count in answer.fields[:3])
    if few > 0:
        return Gate(SHADOW, str(Verdict.INCONCLUSIVE), why, few, None, share, limit)
    return Gate(SHADOW, str(parity_verdict(share, limit)), why, None, None, share, limit)


def join_gate(s: SpinoutSnapshot, status: SpinoutStatus, wanted: float) -> Gate:
    answer = s.seen.answers.get(join_look(s, s.stored))
    if not isinstance(answer, TraceJoin) or not is_shown(status) or not s.stored.step_begun_at:
        why = answer.why if isinstance(answer, Unknown) else "no traces yet"
        return Gate(JOIN, str(Verdict.INCONCLUSIVE), why, limit=wanted)
    total = answer.joined + answer.broken
    found = judge_share(clamped(wanted), answer.joined, total, alpha=alpha_of(s))
    why = f"{found.why}; not whole: {', '.join(answer.samples[:3])}" if answer.samples else found.why
    return Gate(JOIN, str(found.verdict), why, found.needs, None, found.value_new, wanted)


def clamped(share: float) -> float:
    return min(max(share, 1e-6), 1.0 - 1e-6)


def threshold_gate(s: SpinoutSnapshot, gate: ThresholdGate) -> Gate:
    answer = s.seen.answers.get(LookGauge(gate.url, gate.query))
    if not isinstance(answer, GaugeSample):
        why = answer.why if isinstance(answer, Unknown) else "not read yet"
        return Gate(gate.name, str(Verdict.INCONCLUSIVE), why, limit=gate.limit)
    found = judge_threshold(threshold_of(gate), Sample(answer.value, answer.at), now=s.now)
    # How old it is changes with every look: nothing is written for that.
    why = f"the figure is older than {gate.stale_seconds:g} s" if found.missing == "a fresh sample" else found.why
    return Gate(gate.name, str(found.verdict), why, None, None, found.value_new, gate.limit)
