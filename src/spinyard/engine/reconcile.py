"""One row, from claim until its Plan waits: observe, decide, commit, execute, again.

Never: act before the commit, act without the lease, take what an action returned for the state of the world.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from spinyard.core.ids import Uid
from spinyard.core.observed import Seen
from spinyard.core.plan import BindMember, CreateChild, DeleteChild, EndRollout, Plan, SetRollout, WakeChild
from spinyard.core.row import ObjectRow
from spinyard.engine.bell import Bell
from spinyard.engine.committer import Committer
from spinyard.engine.context import Context
from spinyard.engine.execute import execute
from spinyard.engine.observe import observe
from spinyard.ports.store import Commit, Committed, Lease, Refused, Stale

log = structlog.get_logger()

NOTHING_YET = Seen()
REREAD_SECONDS = 0.1
PUT_OFF_SECONDS = 1.0
"""for a row whose plan the store refuses, or whose decision fails: it must not turn in circles"""


@dataclass(slots=True)
class Flight:
    """A row in our hands. `lease_until` is moved by the heartbeat; `lost` means: stop, quietly."""

    lease: Lease
    lease_until: float
    nudge: Bell = field(default_factory=Bell)
    lost: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    reread: bool = False
    """what nudged it has changed the row: a hint only says that the world has"""
    read_at: float = 0.0
    """when the row was last read or written as a whole: a wish whose hint was lost is seen a little later"""


class Reconciler:
    def __init__(self, context: Context, committer: Committer, others_due: Callable[[], None]) -> None:
        self._context = context
        self._others_due = others_due
        self._committer = committer
        self.flights: dict[Uid, Flight] = {}

    async def drive(self, row: ObjectRow, flight: Flight) -> bool:
        """True when a nudge came that nobody has looked at: the caller makes the row due again."""
        current: ObjectRow | None = row
        seen_before = NOTHING_YET
        while current is not None and not flight.lost:
            flight.nudge.clear()
            plan, now = await self._decide(current, seen_before)
            refused_before, seen_before = seen_before.refused, NOTHING_YET
            waits = None if plan.wake_at is None else max(0.0, plan.wake_at - now)
            lingers = not plan.finished and (bool(plan.actions) or (waits is not None and waits <= self._linger()))
            if changes(current, plan):
                result = await self._committer.commit(Commit(current, plan, release=not lingers))
                match result:
                    case Stale():
                        current = await self._reload(flight)
                        continue
                    case Refused(why=why) if refused_before:
                        log.error("refused again, put off", uid=row.uid, kind=row.kind, name=row.name, why=why)
                        await self._release(flight, current, replace(plan, wake_at=now + PUT_OFF_SECONDS))
                        return flight.nudge.is_set()
                    case Refused(why=why):
                        seen_before = Seen(refused=why)
                        continue
                    case Committed(row=after):
                        if plan.children or after.state != current.state:
                            self._others_due()
                        self._nudge_children(plan)
                        current, flight.read_at = after, self._context.clock.monotonic()
                if not lingers:
                    return flight.nudge.is_set() and not plan.finished
            if plan.actions:
                left = flight.lease_until - self._context.clock.now()
                seen_before = Seen(outcomes=await execute(self._context, current, plan.actions, left))
            if waits is None or waits > self._linger():
                await self._release(flight, current, plan)
                return flight.nudge.is_set()
            if waits > 0:
                await flight.nudge.wait(waits)
                if flight.reread or self._context.clock.monotonic() - flight.read_at >= REREAD_SECONDS:
                    current = await self._reload(flight, current)
        self._context.figures.leases_lost += 1
        return False

    def _nudge_children(self, plan: Plan) -> None:
        """What is in our hands may rest for a while; its wish has just changed."""
        for change in plan.children:
            match change:
                case DeleteChild(uid=uid) | WakeChild(uid=uid) | SetRollout(service=uid) | EndRollout(service=uid):
                    if (flight := self.flights.get(uid)) is not None:
                        flight.reread = True
                        flight.nudge.set()
                case CreateChild() | BindMember():
                    pass

    async def _decide(self, row: ObjectRow, before: Seen) -> tuple[Plan, float]:
        context = self._context
        domain = context.domains[row.kind]
        context.figures.passes += 1
        answers = await observe(context, row, domain.looks(row, context.clock.now()))
        now = context.clock.now()
        plan = domain.decide(row, Seen(answers, before.outcomes, before.refused), now)
        if not domain.machine.may(row.state, plan.state):
            raise AssertionError(f"{row.kind} {row.name}: {row.state} -> {plan.state} is not a transition ({plan.why})")
        return plan, now

    def _linger(self) -> float:
        """Rows that wait a little keep their lease, as long as there is room for others."""
        settings = self._context.settings
        crowded = len(self.flights) > settings.in_flight_max // 2
        return settings.linger_seconds / 10 if crowded else settings.linger_seconds

    async def _reload(self, flight: Flight, known: ObjectRow | None = None) -> ObjectRow | None:
        flight.read_at, flight.reread = self._context.clock.monotonic(), False
        return await self._context.read(lambda: self._context.store.reload(flight.lease, known))

    async def _release(self, flight: Flight, row: ObjectRow, plan: Plan) -> None:
        await self._committer.release((flight.lease, row.wake_seq, plan.wake_at))


def changes(row: ObjectRow, plan: Plan) -> bool:
    """A plan that only waits is not written."""
    return (
        plan.state != row.state
        or plan.finished
        or plan.status != row.status
        or bool(plan.resources or plan.children or plan.requires or plan.returns or plan.events or plan.records)
        or plan.outcome != row.outcome
    )
