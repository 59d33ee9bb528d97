"""From counters to evidence, figures and gates. What cannot be told is said to be so, and decides nothing."""

from __future__ import annotations

import msgspec

from spinyard.core.figures import (
    NOTHING,
    Gate,
    Reading,
    begun_between,
    buckets_between,
    figures,
    quantile,
    since,
    stretch_counts,
    stretch_from,
)
from spinyard.core.observed import Unknown
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Gauge, GaugeLimit, LatencyLimit
from spinyard.core.verdict import Counts, Evidence, Increment, Verdict, fold, judge, judge_lately, judge_split
from spinyard.spin.rollout.snapshot import RolloutSnapshot
from spinyard.spin.rollout.status import RolloutStatus

STEP_REQUESTS_MIN = 20
"""on the new side, in each step that is compared, however sure the steps before have made us"""
RATE_REQUESTS_MIN = 50
SPLIT_ALPHA = 0.001
BEFORE_MIN = 200
"""requests of the old side since the rollout began; with fewer, all that its cluster has counted is taken"""


def measured(s: RolloutSnapshot) -> RolloutStatus:
    """The status with what came since the last reading: folded when it is one stretch at one weight."""
    status = s.status
    traffic = s.traffic
    if not s.is_shown:
        return status
    if isinstance(traffic, Unknown):
        return msgspec.structs.replace(status, blind_since=status.blind_since or s.now)
    reading = Reading(
        traffic.epoch,
        traffic.at,
        status.weight_serial,
        traffic.clusters.get(s.old_cluster, NOTHING),
        traffic.clusters.get(s.new_cluster, NOTHING),
    )
    before = status.reading if status.reading is not None and status.reading.epoch == reading.epoch else None
    base = before or Reading(reading.epoch, reading.at, reading.serial, NOTHING, NOTHING)
    step = Increment(reading.serial, since(base.old, reading.old), since(base.new, reading.new))
    makes_sense = step.old.is_usable and step.new.is_usable
    usable = before is not None and before.serial == reading.serial
    if usable and 0 < status.weight < WEIGHT_ALL and s.spec.strategy.analysis.enabled:
        evidence = status.evidence or Evidence(s.spec.strategy.analysis.margin)
        status = msgspec.structs.replace(status, evidence=fold(evidence, step))
    if makes_sense and status.weight < WEIGHT_ALL:
        # The first reading brings all that its cluster has counted since the data plane began.
        if status.reading is None:
            status = msgspec.structs.replace(status, life=step.old)
        elif usable:
            status = msgspec.structs.replace(status, before=status.before + step.old)
    if not makes_sense:
        # It is no base for the next one: what follows would be counted twice.
        return msgspec.structs.replace(status, blind_since=status.blind_since or s.now)
    status = msgspec.structs.replace(status, blind_since=0.0)
    if usable and before is not None and (before.old, before.new) == (reading.old, reading.new) and status.step_reading:
        # Nothing happened: nothing is written.
        return status
    if usable and before is not None and status.weight >= WEIGHT_ALL:
        status = with_lately(s, status, before, reading)
    begun = status.step_reading
    if begun is None or (begun.epoch, begun.serial) != (reading.epoch, reading.serial):
        begun = reading
    return msgspec.structs.replace(
        status,
        reading=reading,
        step_reading=begun,
        old=figures(begun.old, reading.old, reading.at - begun.at),
        new=figures(begun.new, reading.new, reading.at - begun.at),
    )


# -- gates -------------------------------------------------------------------------------------------------------------


def gates(s: RolloutSnapshot, status: RolloutStatus) -> tuple[Gate, ...]:
    """Everything that may stop this step, or send it back."""
    analysis = s.spec.strategy.analysis
    out = []
    if analysis.enabled:
        out.append(success_gate(s, status) if status.weight < WEIGHT_ALL else alone_gate(s, status))
    if analysis.enabled and 0 < status.weight < WEIGHT_ALL and not is_sticky(s):
        out += split_gate(status)
    out += [latency_gate(status, limit) for limit in analysis.latency]
    out += [gauge_gate(s, status, limit) for limit in analysis.gauges]
    return tuple(out)


def is_sticky(s: RolloutSnapshot) -> bool:
    """Then users are split, not requests: the shares say nothing."""
    sticky = s.spec.strategy.sticky
    return bool(sticky.header or sticky.cookie or sticky.client_address)


def success_gate(s: RolloutSnapshot, status: RolloutStatus) -> Gate:
    analysis = s.spec.strategy.analysis
    evidence = status.evidence or Evidence(analysis.margin)
    found = judge(evidence, alpha=analysis.alpha)
    verdict, why, needs = found.verdict, found.why, found.needs
    if status.blind_since:
        why = f"no counters from the data plane; what was seen before: {why}"
    here = status.new.requests
    if verdict is Verdict.PASS and here < STEP_REQUESTS_MIN:
        needs = STEP_REQUESTS_MIN - here
        verdict, why = Verdict.INCONCLUSIVE, f"{why}; {here} of {STEP_REQUESTS_MIN} requests seen at this weight"
    return Gate(
        "success rate",
        str(verdict),
        why,
        needs,
        old=1.0 - found.old.rate if found.old.requests else None,
        new=1.0 - found.new.rate if found.new.requests else None,
        limit=found.margin,
    )


def alone_gate(s: RolloutSnapshot, status: RolloutStatus) -> Gate:
    """At full weight there is nobody to compare with at the same time: it is held against what the old side did before,
    and the margin. The old rate is an estimate, so the guarantee is as good as that."""
    analysis = s.spec.strategy.analysis
    before, limit = before_of(status), alone_limit(s, status)
    new = Counts(status.new.requests, status.new.failures)
    if status.blind_since or status.step_reading is None:
        why = "no counters from the data plane at full weight"
        return Gate("success rate", str(Verdict.INCONCLUSIVE), why, limit=analysis.margin)
    recent = stretch_counts(status.lately, status.reading)
    nth = max(0, status.stretches - 1)
    verdict, needs, is_recent = judge_lately(limit, new, recent, nth, alpha=analysis.alpha)
    why = (
        f"at full weight {new.failures} of {new.requests} failed ({new.rate:.2%}); "
        f"the old side before: {before.failures} of {before.requests} ({before.rate:.2%}), margin {analysis.margin:.2%}"
    )
    if is_recent:
        why = f"lately {recent.failures} of {recent.requests} failed; {why}"
    old = 1.0 - before.rate if before.requests else None
    return Gate("success rate", str(verdict), why, needs, old, 1.0 - new.rate, analysis.margin)


def with_lately(s: RolloutSnapshot, status: RolloutStatus, before: Reading, reading: Reading) -> RolloutStatus:
    """A soak may be long: what the new side did in its last requests is judged by itself too."""
    limit, alpha = alone_limit(s, status), s.spec.strategy.analysis.alpha
    begun = stretch_from(status.lately, before, reading, limit=limit, alpha=alpha)
    if begun == status.lately:
        return status
    return msgspec.structs.replace(status, lately=begun, stretches=status.stretches + 1)


def before_of(status: RolloutStatus) -> Counts:
    return status.before if status.before.requests >= BEFORE_MIN else status.before + status.life


def alone_limit(s: RolloutSnapshot, status: RolloutStatus) -> float:
    return min(0.999, before_of(status).rate + s.spec.strategy.analysis.margin)


def split_gate(status: RolloutStatus) -> list[Gate]:
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
    why = f"{share:.1%} of the requests went to the new side, {asked:.1%} were asked for: the routing is wrong"
    return [Gate("traffic split", str(Verdict.ERROR), why, old=None, new=share, limit=asked)]


def latency_gate(status: RolloutStatus, limit: LatencyLimit) -> Gate:
    name = f"p{limit.quantile * 100:g} latency"
    begun, reading = status.step_reading, status.reading
    if begun is None or reading is None:
        return Gate(name, str(Verdict.INCONCLUSIVE), "no counters yet", limit.min_requests)
    new = quantile(buckets_between(begun.new, reading.new), limit.quantile)
    old = quantile(buckets_between(begun.old, reading.old), limit.quantile)
    bound, words = limit.max_seconds, "the limit"
    if limit.max_ratio is not None and status.weight < WEIGHT_ALL:
        few = limit.min_requests - status.old.requests
        if old is None or few > 0:
            return Gate(name, str(Verdict.INCONCLUSIVE), "too few requests on the old side to compare with", new=new)
        if bound is None or old * limit.max_ratio < bound:
            bound, words = old * limit.max_ratio, f"{limit.max_ratio:g} times the old side's"
    if bound is None:
        return Gate(name, str(Verdict.PASS), "no old side to compare with", new=new)
    few = limit.min_requests - status.new.requests
    if new is None or few > 0:
        why = f"{max(0, status.new.requests)} of {limit.min_requests} requests seen at this weight"
        return Gate(name, str(Verdict.INCONCLUSIVE), why, max(1, few), old, new, bound)
    verdict = Verdict.FAIL if new > bound else Verdict.PASS
    why = f"{new * 1000:.0f} ms, {words} is {bound * 1000:.0f} ms"
    return Gate(name, str(verdict), why, None, old, new, bound)


def gauge_gate(s: RolloutSnapshot, status: RolloutStatus, limit: GaugeLimit) -> Gate:
    value, name, needs = 0.0, "", None
    match limit.gauge:
        case Gauge.FAILED_STARTS:
            name, value = "failed starts", float(len(s.failures))
        case Gauge.ACTIVE_REQUESTS:
            active = status.reading.new.active if status.reading is not None else 0
            name, value = "active requests per instance", active / max(1, s.shown.ready)
        case Gauge.FAILURE_RATE:
            name, value = "failure rate", status.new.failures / max(1, status.new.requests)
            needs = max(0, RATE_REQUESTS_MIN - status.new.requests) if status.weight else None
    if needs:
        why = f"{status.new.requests} of {RATE_REQUESTS_MIN} requests seen at this weight"
        return Gate(name, str(Verdict.INCONCLUSIVE), why, needs, new=value, limit=limit.max)
    verdict = Verdict.FAIL if value > limit.max else Verdict.PASS
    return Gate(name, str(verdict), f"{value:g}, the limit is {limit.max:g}", new=value, limit=limit.max)
