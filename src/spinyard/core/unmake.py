"""Taking things away: unwanted first and durably, asked for as often as needed, closed only when seen absent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spinyard.core.actions import Action, Remove
from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, Observed, Present, ProcessFacts, Unknown
from spinyard.core.plan import Resource

Observe = Callable[[str, ResourceKey], Observed]


def unmake(
    resources: tuple[Resource, ...], observed_of: Observe, now: float, *, hard: bool
) -> tuple[tuple[Resource, ...], tuple[Action, ...], str]:
    """(ledger rows that change, what to ask for, what is waited for, or empty when all of them are gone)."""
    changed: list[Resource] = []
    actions: list[Action] = []
    waiting = ""
    for resource in resources:
        after = closing(resource, observed_of(resource.provider, resource.key), now)
        if after != resource:
            changed.append(after)
        if after.closed_at is not None:
            continue
        observed = observed_of(resource.provider, resource.key)
        waiting = waiting or f"{resource.key}: {describe(observed)}"
        # On Unknown too: to ask for the end of something is right whether it is there or not.
        if not isinstance(observed, Absent):
            actions.append(Remove(resource.provider, resource.key, now=hard))
    return tuple(changed), tuple(actions), waiting


def closing(resource: Resource, observed: Observed, now: float) -> Resource:
    """Unwanted first, durably. Closed on Absent: one, or two that are far enough apart where creates may come late."""
    if resource.wanted:
        return replace(resource, wanted=False)
    match observed:
        case Present():
            return replace(resource, absent_at=None)
        case Unknown():
            return resource
        case Absent(seconds=seconds):
            if resource.gone_after_seconds <= 0:
                return replace(resource, closed_at=now)
            if resource.absent_at is None or resource.absent_at > now:
                return replace(resource, absent_at=now)
            # By the ledger, which outlives us, and by the observer's steady clock, which does not jump.
            if min(now - resource.absent_at, seconds) > resource.gone_after_seconds:
                return replace(resource, closed_at=now)
            return resource


def describe(observed: Observed) -> str:
    match observed:
        case Present(facts=ProcessFacts(running=True, pid=pid)):
            return f"process {pid} still runs"
        case Present():
            return "still there"
        case Unknown(why=why):
            return f"not known: {why}"
        case _:
            return "absent, waiting for the second look"
