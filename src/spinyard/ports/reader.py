"""Figures that are read somewhere else: one reader for each sort of look (LookGauge, LookJoin, LookShadow)."""

from __future__ import annotations

from typing import Protocol

from spinyard.core.observed import GaugeSample, LookGauge, LookJoin, LookShadow, ShadowFound, TraceJoin, Unknown

ReadLook = LookGauge | LookJoin | LookShadow
ReadAnswer = GaugeSample | TraceJoin | ShadowFound | Unknown


class Reader(Protocol):
    async def read(self, look: ReadLook) -> ReadAnswer:
        """Unknown rather than a guess: no source, no answer, nothing in it, not a number. Bounded by the engine in
        time; never changes anything."""
        ...
