"""Making a good instance known: to the data plane if it has a route, else it is simply up."""

from __future__ import annotations

from dataclasses import replace

from spinyard.core.actions import Ensure
from spinyard.core.plan import Plan
from spinyard.core.want import EndpointState
from spinyard.spin.snapshot import PROXY, Snapshot
from spinyard.spin.status import SpinStatus, State
from spinyard.spin.translate import endpoint_want


def introduce(s: Snapshot, status: SpinStatus) -> Plan:
    if not s.spec.cluster:
        return came_up(s, s.move(State.READY, "it is up; it has no route", "Ready", status=status))
    want = endpoint_want(s, EndpointState.ACTIVE)
    row = s.ledger(s.endpoint_key, "endpoint", PROXY, want)
    return s.move(
        State.REGISTERING,
        "ready, now it is made known to the data plane",
        "Ready",
        status=status,
        resources=(row,),
        actions=(Ensure(PROXY, s.endpoint_key, want),),
    )


def came_up(s: Snapshot, plan: Plan) -> Plan:
    """Its start is over, and good; what happens later is no failed start."""
    return plan if s.row.served_at is not None else replace(plan, served_at=s.now)
