"""Keeps the leases of the rows in our hands; a lease that is not ours any more stops its row."""

from __future__ import annotations

from spinyard.engine.context import Context
from spinyard.engine.reconcile import Reconciler


async def beat_forever(context: Context, reconciler: Reconciler) -> None:
    while True:
        await context.clock.sleep(context.settings.lease_seconds / 3)
        await beat(context, reconciler)


async def beat(context: Context, reconciler: Reconciler) -> None:
    flights = list(reconciler.flights.values())
    if not flights:
        return
    until = context.clock.now() + context.settings.lease_seconds
    leases = [flight.lease for flight in flights]
    context.failpoint("extend:before")
    kept = set(await context.write(lambda: context.store.extend(leases, until=until)))
    context.failpoint("extend:after")
    for flight in flights:
        if flight.lease in kept:
            flight.lease_until = until
        else:
            flight.lost = True
            flight.nudge.set()
