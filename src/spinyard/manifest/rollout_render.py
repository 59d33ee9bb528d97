"""A strategy and a Rollout in the published form. What the engine writes for itself (side, part, probe) is left out."""

from __future__ import annotations

from decimal import Decimal

from spinyard.core.shift import Sticky
from spinyard.core.spec import Analysis, Gauge, GaugeLimit, LatencyLimit, RolloutSpec, RolloutStep, RolloutStrategy
from spinyard.manifest.scalars import plain_number

Fields = dict[str, object]


def strategy_fields(strategy: RolloutStrategy) -> Fields:
    return {
        "type": "blueGreen" if strategy.blue_green else "canary",
        "steps": [_step(step) for step in strategy.steps],
        "analysis": _analysis(strategy.analysis),
        **_sticky(strategy.sticky),
        "readyDeadline": plain_number(strategy.ready_deadline_seconds),
        "soak": plain_number(strategy.soak_seconds),
    }


def rollout_fields(spec: RolloutSpec) -> Fields:
    """What a Rollout is to do. It cannot be applied: `apply` of its Service made it."""
    given: Fields = {
        "owner": spec.owner,
        "service": spec.service,
        "templateRef": {"name": spec.template_ref} if spec.template_ref else None,
        "oldTemplateDigest": spec.old_digest,
        "templateDigest": spec.template_digest,
        "strategy": strategy_fields(spec.strategy),
        "promoted": spec.promoted,
        "promotedFully": True if spec.promoted_fully else None,
        "abort": spec.abort,
    }
    return {name: value for name, value in given.items() if value is not None and value != ""}


def percent(share: float) -> int | float:
    """The same digits, two places further. Of up to 15 digits it is read back as the same share."""
    return plain_number(float(Decimal(repr(share)).scaleb(2)))


def weight_percent(parts: int) -> int | float:
    return plain_number(parts / 100)


def _step(step: RolloutStep) -> Fields:
    fields: Fields = {"weight": weight_percent(step.weight)}
    if step.wait:
        fields["pause"] = True
    elif step.hold_seconds:
        fields["pause"] = plain_number(step.hold_seconds)
    return fields


def _analysis(analysis: Analysis) -> Fields:
    return {
        "enabled": analysis.enabled,
        "margin": percent(analysis.margin),
        "alpha": plain_number(analysis.alpha),
        **({"latency": [_latency(limit) for limit in analysis.latency]} if analysis.latency else {}),
        **({"gauges": [_gauge(limit) for limit in analysis.gauges]} if analysis.gauges else {}),
    }


def _latency(limit: LatencyLimit) -> Fields:
    return {
        "quantile": plain_number(limit.quantile),
        **({} if limit.max_seconds is None else {"max": plain_number(limit.max_seconds)}),
        **({} if limit.max_ratio is None else {"maxRatio": plain_number(limit.max_ratio)}),
        "minRequests": limit.min_requests,
    }


def _gauge(limit: GaugeLimit) -> Fields:
    most = percent(limit.max) if limit.gauge is Gauge.FAILURE_RATE else plain_number(limit.max)
    return {"name": str(limit.gauge), "max": most}


def _sticky(sticky: Sticky) -> Fields:
    """Nothing when each request is on its own."""
    key: Fields = {}
    if sticky.header:
        key["header"] = sticky.header
    elif sticky.cookie:
        key["cookie"] = sticky.cookie
    elif sticky.client_address:
        return {"sticky": {"clientAddress": True}}
    else:
        return {}
    return {"sticky": key | {"noKey": "old" if sticky.no_key_old else "any"}}
