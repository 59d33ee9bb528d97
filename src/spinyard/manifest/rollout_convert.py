"""From the published `spec.rollout` to a strategy, with the steps of each type filled in."""

from __future__ import annotations

from decimal import Decimal

from spinyard.core.shift import WEIGHT_ALL, Sticky
from spinyard.core.spec import Analysis, Gauge, GaugeLimit, LatencyLimit, RolloutStep, RolloutStrategy
from spinyard.manifest.rollout_shapes import (
    AnalysisShape,
    GaugeLimitShape,
    RolloutShape,
    RolloutStepShape,
    StickyShape,
)

CANARY_WEIGHTS = (1_000, 5_000, WEIGHT_ALL)
BLUE_GREEN_SOAK_SECONDS = 60.0


def strategy(shape: RolloutShape) -> RolloutStrategy:
    blue_green = shape.type == "blueGreen"
    weights = (WEIGHT_ALL,) if blue_green else CANARY_WEIGHTS
    soak = BLUE_GREEN_SOAK_SECONDS if blue_green else RolloutStrategy().soak_seconds
    return RolloutStrategy(
        blue_green=blue_green,
        steps=tuple(_step(step) for step in shape.steps) if shape.steps else tuple(RolloutStep(w) for w in weights),
        analysis=_analysis(shape.analysis),
        sticky=_sticky(shape.sticky) if shape.sticky else Sticky(),
        ready_deadline_seconds=shape.ready_deadline,
        soak_seconds=soak if shape.soak is None else shape.soak,
    )


def share(percent: float) -> float:
    """The same digits, two places back: 7 points are 0.07, and shown as 7 again."""
    return float(Decimal(repr(percent)).scaleb(-2))


def _step(shape: RolloutStepShape) -> RolloutStep:
    waits = shape.pause is True
    return RolloutStep(round(shape.weight * 100), 0.0 if waits else float(shape.pause), waits)


def _analysis(shape: AnalysisShape) -> Analysis:
    return Analysis(
        enabled=shape.enabled,
        margin=share(shape.margin),
        alpha=float(shape.alpha),
        latency=tuple(
            LatencyLimit(limit.quantile, limit.max, limit.max_ratio, limit.min_requests) for limit in shape.latency
        ),
        gauges=tuple(_gauge(limit) for limit in shape.gauges),
    )


def _gauge(shape: GaugeLimitShape) -> GaugeLimit:
    gauge = Gauge(shape.name)
    return GaugeLimit(gauge, share(shape.max) if gauge is Gauge.FAILURE_RATE else shape.max)


def _sticky(shape: StickyShape) -> Sticky:
    return Sticky(shape.header or "", shape.cookie or "", bool(shape.client_address), shape.no_key == "old")
