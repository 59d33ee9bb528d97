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

    def new_secret(self) -> str:
        """43 characters of base64, from 32 bytes of the system's randomness."""
        return secrets.token_urlsafe(32)
