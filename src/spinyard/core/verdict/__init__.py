"""The judge: is the new side worse than the old one? Asked after every request if one likes, without inflating errors.

    evidence = Evidence(margin=0.05)                                  # kept in the status of who is judged
    evidence = fold(evidence, Increment(step, old, new))              # once for each usable measurement
    judgement = judge(evidence, alpha=0.01)                           # as often as one likes

The method, what it may be trusted for and where it ends: docs/judge.md. It must never decide on missing data: who has
no measurement folds nothing, and evidence without both sides is worth 1, which decides nothing.

On latency: `quantiles`. Burn rates of an objective: `burn`. Plain limits: `threshold`. That a gate can fail: `gate`.
All of them answer with a Judgement.
"""

from __future__ import annotations

from spinyard.core.verdict.alone import judge_alone, judge_lately, stretch_is_over
from spinyard.core.verdict.counts import Counts, Increment
from spinyard.core.verdict.evidence import Evidence, fold
from spinyard.core.verdict.histogram import Histogram, of_cumulative
from spinyard.core.verdict.judgement import ALPHA_MIN, Judgement, Verdict, judge, judge_split
from spinyard.core.verdict.quantile_bets import quantile_range
from spinyard.core.verdict.quantiles import (
    LatencyEvidence,
    LatencyIncrement,
    QuantileGoal,
    QuantileLimit,
    decide_latency,
    fold_latency,
    judge_latency,
    judge_latency_alone,
)

__all__ = [
    "ALPHA_MIN",
    "Counts",
    "Evidence",
    "Histogram",
    "Increment",
    "Judgement",
    "LatencyEvidence",
    "LatencyIncrement",
    "QuantileGoal",
    "QuantileLimit",
    "Verdict",
    "decide_latency",
    "fold",
    "fold_latency",
    "judge",
    "judge_alone",
    "judge_lately",
    "judge_latency",
    "judge_latency_alone",
    "judge_split",
    "of_cumulative",
    "quantile_range",
    "stretch_is_over",
]
