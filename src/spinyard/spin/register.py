"""Making a good instance known: to the data plane if it has a route, else it is simply up."""

from __future__ import annotations

from dataclasses import replace

from spinyard.core.actions import Ensure
from spinyard.core.observed import Present
from spinyard.core.plan import Plan
from spinyard.core.want import EndpointState
from spinyard.spin.snapshot import PROXY, Snapshot
from spinyard.spin.status import SpinStatus, State
from spinyard.spin.translate import endpoint_want

CONFIRM_SECONDS = 0.05
"""the data plane's answer comes as a hint; to look sooner finds nothing"""


def introduce(s: Snapshot, status: SpinStatus) -> Plan:
    if not s.spec.cluster:
        plan = came_up(s, s.move(State.READY, "it is up; it has no route", "Ready", status=status))
        # What a member that is up is looked at for, this pass has seen: nothing to do until something changes.
        seen = s.row.state == State.WARM and isinstance(s.process, Present)
        return replace(plan, wake_at=s.expires_at) if seen else plan
    want = endpoint_want(s, EndpointState.ACTIVE)
    row = s.ledger(s.endpoint_key, "endpoint", PROXY, want)
    plan = s.move(
        State.REGISTERING,
        "ready, now it is made known to the data plane",
        "Ready",
        status=status,
        resources=(row,),
        actions=(Ensure(PROXY, s.endpoint_key, want),),
    )
    return replace(plan, wake_at=s.now + CONFIRM_SECONDS, unheard=s.spec.claim is not None)


def came_up(s: Snapshot, plan: Plan) -> Plan:
    """Its start is over, and good; what happens later is no failed start."""
    return plan if s.row.served_at is not None else replace(plan, served_at=s.now)
