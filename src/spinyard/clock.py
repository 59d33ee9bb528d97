"""The only reader of the clock and the only maker of random ids."""

from __future__ import annotations

import asyncio
import secrets
import time

from spinyard.core.ids import Uid, short_hash


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def new_uid(self) -> Uid:
        return Uid(short_hash(secrets.token_hex(16), 20))
