"""One match on the state; each arm is one rule."""

from __future__ import annotations

from typing import assert_never

import msgspec

from spinyard.core.machine import Machine
from spinyard.core.observed import Look, LookResource, Seen
from spinyard.core.plan import Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind, SpinSpec
from spinyard.spin.bootstrap import bootstrapping, probe_look, smoke_probe
from spinyard.spin.end import cleaning, draining, failed, terminating
from spinyard.spin.errand import errand, errand_looks, has_errand
from spinyard.spin.serve import liveness_look, registering, up, watches_of
from spinyard.spin.snapshot import PROXY, Snapshot, SpinRules
from spinyard.spin.start import first_resources, pending, planned, provisioning
from spinyard.spin.status import TRANSITIONS, State, decode_status, in_time
from spinyard.spin.translate import readiness
from spinyard.spin.warm import warm, warm_looks


def decide(s: Snapshot) -> Plan:
    match State(s.row.state):
        case State.PENDING:
            return pending(s)
        case State.PLANNED:
            return planned(s)
        case State.PROVISIONING:
            return provisioning(s)
        case State.BOOTSTRAPPING:
            return bootstrapping(s)
        case State.WARM:
            return warm(s)
        case State.REGISTERING:
            return registering(s)
        case State.READY | State.SERVING:
            return errand(s) if has_errand(s) else up(s)
        case State.DRAINING:
            return draining(s)
        case State.FAILED:
            return failed(s)
        case State.TERMINATING:
            return terminating(s)
        case State.CLEANING | State.LEAKED:
            return cleaning(s)
        case State.TERMINATED:
            return s.stay("nothing is left of it", "CleanupVerified", wake_in=None)
        case never:
            assert_never(never)


def looks(s: Snapshot) -> tuple[Look, ...]:
    """Only what the rule of this state reads."""
    provider = s.template.provider
    process = LookResource(provider, s.process_key)
    endpoint = LookResource(PROXY, s.endpoint_key)
    match State(s.row.state):
        case State.PENDING | State.PLANNED | State.FAILED | State.TERMINATED:
            return ()
        case State.PROVISIONING:
            rows, _ = first_resources(s)
            return tuple(LookResource(row.provider, row.key) for row in rows)
        case State.BOOTSTRAPPING:
            return bootstrap_looks(s, process)
        case State.WARM:
            liveness = liveness_look(s)
            return (process, *(() if liveness is None else (liveness,)), *warm_looks(s))
        case State.REGISTERING:
            return (process, endpoint, *watches_of(s))
        case State.READY | State.SERVING if has_errand(s):
            return errand_looks(s)
        case State.READY | State.SERVING:
            return (process, *((endpoint,) if s.spec.cluster else ()), *watches_of(s))
        case State.DRAINING:
            return (process, endpoint)
        case State.TERMINATING:
            kinds = ("process", "endpoint")
            return tuple(LookResource(r.provider, r.key) for r in s.row.resources if r.kind in kinds)
        case State.CLEANING | State.LEAKED:
            return tuple(LookResource(r.provider, r.key) for r in s.row.resources)
        case never:
            assert_never(never)


def bootstrap_looks(s: Snapshot, process: LookResource) -> tuple[Look, ...]:
    if s.status.step < len(s.template.bootstrap):
        return (LookResource(s.template.provider, s.key(f"step-{s.status.step}")),)
    if not s.status.started:
        startup = s.template.startup_probe
        begun = s.resource(s.process_key) is not None
        return (process,) if startup is None or not begun else (process, probe_look(s, startup))
    if not s.status.probed:
        probe = readiness(s)
        return (process,) if probe is None else (process, probe_look(s, probe))
    return (process, probe_look(s, smoke_probe(s))) if s.template.smoke_test is not None else (process,)


class SpinDomain:
    """The kind Spin for the engine."""

    kind = Kind.SPIN
    machine: Machine = TRANSITIONS

    def __init__(self, rules: SpinRules) -> None:
        self._rules = rules

    def looks(self, row: ObjectRow, now: float) -> tuple[Look, ...]:
        return looks(self._snapshot(row, Seen(), now))

    def decide(self, row: ObjectRow, seen: Seen, now: float) -> Plan:
        return decide(self._snapshot(row, seen, now))

    def _snapshot(self, row: ObjectRow, seen: Seen, now: float) -> Snapshot:
        assert isinstance(row.spec, SpinSpec) and row.template is not None
        status = decode_status(row.status)
        if not status.since:
            status = msgspec.structs.replace(status, since=row.created_at)
        return Snapshot(row, row.spec, row.template, in_time(status, now), seen, self._rules, now)
