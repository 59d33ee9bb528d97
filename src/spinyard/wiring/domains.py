"""What decides for each kind, and what decisions know of the providers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spinyard.core.spec import Kind
from spinyard.settings import Settings
from spinyard.spin.claim.decide import ClaimDomain
from spinyard.spin.decide import SpinDomain
from spinyard.spin.hold import HoldDomain
from spinyard.spin.job.decide import JobDomain
from spinyard.spin.pool.decide import PoolDomain
from spinyard.spin.rollout.decide import RolloutDomain
from spinyard.spin.service.decide import ServiceDomain
from spinyard.spin.snapshot import ProviderFacts, SpinRules
from spinyard.spinout.decide import SpinoutDomain

FAKE_PORTS = (1, 100_000_000)


def spin_rules(settings: Settings, scope: str, otlp: str = "") -> SpinRules:
    return SpinRules(
        providers={
            "process": ProviderFacts(scope, settings.port_range),
            "fake": ProviderFacts("host:fake", FAKE_PORTS),
        },
        otlp=otlp,
    )


def domains(rules: SpinRules) -> Mapping[Kind, Any]:
    return {
        Kind.SPIN: SpinDomain(rules),
        Kind.SERVICE: ServiceDomain(rules),
        Kind.JOB: JobDomain(),
        Kind.WARM_POOL: PoolDomain(rules),
        Kind.ROLLOUT: RolloutDomain(),
        Kind.SPINOUT: SpinoutDomain(),
        Kind.CLAIM: ClaimDomain(),
        Kind.HOLD: HoldDomain(),
    }
