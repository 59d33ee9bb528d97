"""Finds what exists and should not, and what should exist and does not.

The order is the proof: first the provider is listed, then the ledger is read. A row is durable before the call that
creates, so whatever was listed and is wanted has its row by then. A thing is removed only after two sightings that are
`sweep_grace_seconds` apart. Only things with this installation's tag are ever listed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from spinyard.core.ids import ResourceKey, Uid, owner_of
from spinyard.engine.context import Context
from spinyard.ports.provider import Owned, Provider

log = structlog.get_logger()

PAGE = 1000
SPARING = 40.0
"""a sweep that takes long is made less often: 1/40 of the time at the most"""
SWEEP_SECONDS_MAX = 50.0
"""but two sightings and the grace between them still fit into two minutes"""
KEYS_PAGE = 5000


@dataclass(frozen=True, slots=True)
class Orphan:
    """`why`: unknown to the ledger, or closed there. `removed`: its removal was asked for in this sweep."""

    provider: str
    key: ResourceKey
    description: str
    why: str
    first_seen_at: float
    removed: bool = False


class Sweep:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._first_seen: dict[tuple[str, ResourceKey], float] = {}

    async def run_forever(self) -> None:
        """The first at once: what ended while nobody looked is found by it before its row's turn comes."""
        clock, least = self._context.clock, self._context.settings.sweep_seconds
        while True:
            began = clock.monotonic()
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001  the next sweep tries again; swept_at tells when it last worked
                log.error("sweep failed", error=repr(error))
            took = clock.monotonic() - began
            await clock.sleep(max(least, min(took * SPARING, SWEEP_SECONDS_MAX)))

    async def sweep(self, *, dry_run: bool = False, grace_seconds: float | None = None) -> Sequence[Orphan]:
        """All providers once. Returns the orphans seen, removed or still in their grace."""
        grace = self._context.settings.sweep_grace_seconds if grace_seconds is None else grace_seconds
        out: list[Orphan] = []
        seen: set[tuple[str, ResourceKey]] = set()
        whole = True
        for name, provider in self._context.providers.items():
            try:
                found = await self._provider(name, provider, grace, dry_run)
            except Exception as error:  # noqa: BLE001  a provider that cannot be listed tells nothing
                log.warning("provider could not be listed", provider=name, error=repr(error))
                whole = False
                seen.update(key for key in self._first_seen if key[0] == name)
                continue
            out += found
            seen.update((name, orphan.key) for orphan in found)
        for key in self._first_seen.keys() - seen:
            del self._first_seen[key]
        if whole:
            self._context.figures.sweeps += 1
            self._context.figures.swept_at = self._context.clock.now()
        return out

    async def _provider(self, name: str, provider: Provider, grace: float, dry_run: bool) -> list[Orphan]:
        context = self._context
        async with asyncio.timeout(30.0):
            listed = await provider.owned()
        now = context.clock.now()
        strange, differing = await self._compare(name, listed, now)
        out = []
        for start in range(0, len(strange), PAGE):
            page = strange[start : start + PAGE]
            keys = [thing.key for thing in page]
            rows = await context.read(lambda keys=keys: context.store.resources(keys))  # type: ignore[misc]
            for thing in page:
                row = rows.get(thing.key)
                if row is not None and (row.closed_at is None or row.retained):
                    continue
                why = "unknown to the ledger" if row is None else "closed in the ledger"
                # Not by the wall clock: a jump of it must not be taken for the grace.
                seen_at = self._first_seen.setdefault((name, thing.key), context.clock.monotonic())
                seen_seconds = context.clock.monotonic() - seen_at
                due, first = seen_seconds >= grace, now - seen_seconds
                removed = due and not dry_run and await self._remove(name, provider, thing.key, why)
                out.append(Orphan(name, thing.key, thing.description, why, first, removed=removed))
        if differing and not dry_run:
            await context.write(lambda: context.store.wake(differing, now=now))
        return out

    async def _remove(self, name: str, provider: Provider, key: ResourceKey, why: str) -> bool:
        """One that cannot be removed, or whose provider says nothing, must not keep the others."""
        context = self._context
        log.warning("removing an orphan", provider=name, key=key, why=why)
        context.failpoint("sweep:before")
        try:
            async with asyncio.timeout(context.settings.action_seconds):
                await provider.remove(key, now=True)
        except Exception as error:  # noqa: BLE001  the next sweep tries again
            log.error("an orphan could not be removed", provider=name, key=key, error=repr(error))
            return False
        context.failpoint("sweep:after")
        context.figures.orphans_removed += 1
        return True

    async def _compare(self, name: str, listed: Sequence[Owned], now: float) -> tuple[list[Owned], list[Uid]]:
        """What is listed and not open in the ledger; and the inventory: owners of rows that the provider does not have,
        or has not running. Hints may have been lost; this is the net under them. Most of it is equal, so each row
        costs next to nothing."""
        context = self._context
        rest = {thing.key: thing for thing in listed}
        settled_before = now - context.settings.sweep_seconds
        differing: set[Uid] = set()
        after = ""
        while True:
            rows = await context.read(
                lambda after=after: context.store.open_keys(provider=name, after=after, limit=KEYS_PAGE)  # type: ignore[misc]
            )
            for key, wanted, created_at in rows:
                thing = rest.pop(key, None)
                if wanted != (thing is not None and thing.up) and created_at < settled_before:
                    differing.add(owner_of(key))
            if len(rows) < KEYS_PAGE:
                return list(rest.values()), sorted(differing)
            after = rows[-1][0]
