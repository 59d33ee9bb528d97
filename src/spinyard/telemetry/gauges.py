"""Figures from a Prometheus HTTP API: an instant query whose answer is one sample.

No sample, several of them, or an error is no answer; a figure is never made up. Answers are kept for a moment, so that
a query of a gate that is looked at twice a second is not asked twice a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import aiohttp
import msgspec

from spinyard.core.observed import GaugeSample, LookGauge, Unknown
from spinyard.ports.clock import Clock
from spinyard.ports.reader import ReadLook

ASK_SECONDS_MAX = 4.0
BODY_BYTES_MAX = 1 << 20
KEPT_SECONDS = 2.0
KEPT_MAX = 1_000


class _Series(msgspec.Struct):
    value: tuple[float, str]


class _Data(msgspec.Struct):
    resultType: str
    result: msgspec.Raw


class _Reply(msgspec.Struct):
    status: str
    data: _Data | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Kept:
    at: float
    answer: GaugeSample | Unknown


class PrometheusGauges:
    """A reader of LookGauge. `close` ends its connections."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._kept: dict[LookGauge, _Kept] = {}

    async def read(self, look: ReadLook) -> GaugeSample | Unknown:
        if not isinstance(look, LookGauge):
            return Unknown("only gauges are read here")
        now = self._clock.monotonic()
        known = self._kept.get(look)
        if known is not None and now - known.at < KEPT_SECONDS:
            return known.answer
        answer = await self._ask(look)
        self._kept.pop(look, None)
        while len(self._kept) >= KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[look] = _Kept(now, answer)
        return answer

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self, look: LookGauge) -> GaugeSample | Unknown:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_SECONDS_MAX))
        url = look.url.rstrip("/") + "/api/v1/query"
        try:
            async with self._session.get(url, params={"query": look.query}, allow_redirects=False) as answer:
                body = await _whole(answer.content)
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Unknown(f"{look.url} did not answer: {str(error) or type(error).__name__}")
        if body is None:
            return Unknown(f"{look.url} answered with more than {BODY_BYTES_MAX} bytes")
        return _read(look.url, status, body)


async def _whole(content: aiohttp.StreamReader) -> bytes | None:
    """None: it is longer than is read. One read gives what has arrived, which need not be all."""
    body = b""
    while part := await content.read(BODY_BYTES_MAX + 1 - len(body)):
        body += part
        if len(body) > BODY_BYTES_MAX:
            return None
    return body


def _read(url: str, status: int, body: bytes) -> GaugeSample | Unknown:
    try:
        reply = msgspec.json.decode(body, type=_Reply)
    except msgspec.MsgspecError:
        return Unknown(f"{url} answered {status}, and not as a Prometheus HTTP API does")
    if reply.status != "success" or reply.data is None:
        return Unknown(f"{url} refused the query: {reply.error[:300] or status}")
    try:
        match reply.data.resultType:
            case "vector":
                series = msgspec.json.decode(reply.data.result, type=list[_Series])
                if len(series) != 1:
                    return Unknown(f"the query has {len(series)} samples, one is needed" if series else "no sample")
                at, text = series[0].value
            case "scalar":
                at, text = msgspec.json.decode(reply.data.result, type=tuple[float, str])
            case other:
                return Unknown(f"the query gives a {other}, a sample is needed")
        value = float(text)
    except (msgspec.MsgspecError, ValueError):
        return Unknown(f"{url} gave a sample that is no number")
    if math.isnan(value):
        return Unknown("the sample is not a number (NaN)")
    return GaugeSample(value, at)
