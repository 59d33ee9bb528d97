"""SDK: what `@boundary` costs a call that stays where it is, at weight 0: the decorated call minus the plain one.

Each figure is a mean over a batch, batches of plain and decorated calls in turn, in one thread, with the SDK's reader
told of the weight. Peer in the same run: one evaluation of the same flag by openfeature-sdk with its in-memory
provider, which is what a program pays that asks by itself. In the notes: an async call; a call at weight 50 % whose key
is the parent's; flags evaluated over HTTP in a second, by a server of its own from a load of its own.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from bench.home import ROOT, Json, environment, free_port, stop, wait_for
from bench.measured import Measured, Scale, figures
from bench.programs.flags import NAME, WEIGHT
from spinyard_sdk import sides
from spinyard_sdk.boundary import boundary
from spinyard_sdk.flags import Flag
from spinyard_sdk.wire import PARENT, UNIT, side_of

BATCH = 2_000
BATCHES = {Scale.QUICK: 100, Scale.NORMAL: 400, Scale.FULL: 1_000}
EVALUATIONS = {Scale.QUICK: 4_000, Scale.NORMAL: 20_000, Scale.FULL: 50_000}
CONNECTIONS = 8
FLOOR, AIM = 5.0, 1.0
SERVER = (sys.executable, "-m", "bench.programs.flags")


def plain(photo: str, size: int) -> int:
    return size


async def plain_async(photo: str, size: int) -> int:
    return size


decorated = boundary("bench", key=lambda photo, size: photo)(plain)
decorated_async = boundary("bench", key=lambda photo, size: photo)(plain_async)


def measure(scale: Scale) -> Measured:
    gc.disable()
    told(0)
    ours, peer = [], []
    evaluate = in_memory()
    for _ in range(BATCHES[scale]):
        base = batch(lambda: plain("a", 1))
        ours.append(batch(lambda: decorated("a", 1)) - base)
        peer.append(batch(evaluate, BATCH // 20))
    async_ours = asyncio.run(_async(BATCHES[scale]))
    told(5_000)
    key = next(key for key in map(str, range(1000)) if side_of(key, 5_000) == PARENT)
    split = [batch(lambda: decorated(key, 1)) - batch(lambda: plain(key, 1)) for _ in range(BATCHES[scale] // 4)]
    gc.enable()
    found = figures(ours, 3)
    flags = _flags(EVALUATIONS[scale])
    return Measured(
        unit="us",
        ours=found,
        peers={"openfeature-sdk, in memory": figures(peer, 3)},
        floor=FLOOR,
        aim=AIM,
        ok=found.p50 <= FLOOR and flags["wrong"] == 0,
        notes={
            "batch": BATCH,
            "async_us": asdict(figures(async_ours, 3)),
            "at_50_percent_local_us": asdict(figures(split, 3)),
            "flags_over_http": flags,
        },
    )


def told(weight: int) -> None:
    sides._SOURCE.forget()
    sides._SOURCE._start()
    sides._SOURCE._take({"bench": Flag(weight, 0, "127.0.0.1:9", "bench.default.boundary.internal")})


def batch(call: Callable[[], Any], count: int = BATCH) -> float:
    """Microseconds a call."""
    began = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - began) / count * 1e6


async def _async(batches: int) -> list[float]:
    async def one(call: Callable[[str, int], Awaitable[int]]) -> float:
        began = time.perf_counter()
        for _ in range(BATCH):
            await call("a", 1)
        return (time.perf_counter() - began) / BATCH * 1e6

    return [await one(decorated_async) - await one(plain_async) for _ in range(batches)]


def in_memory() -> Callable[[], Any]:
    flag = InMemoryFlag("parent", {"parent": False, "unit": True})
    api.set_provider(InMemoryProvider({"bench": flag}))
    client, context = api.get_client(), EvaluationContext("a")
    return lambda: client.get_boolean_value("bench", False, context)


def _flags(count: int) -> Json:
    with tempfile.TemporaryDirectory(prefix="sy-bench-", dir="/tmp") as folder:
        port = free_port()
        env = environment(Path(folder), PORT=str(port), STORE=f"{folder}/flags.db")
        server = subprocess.Popen(SERVER, cwd=ROOT, env=env)
        try:
            wait_for("the flags' server listens", lambda: _listens(port), 30)
            return uvloop.run(_load(port, count))
        finally:
            stop(server)


async def _load(port: int, count: int) -> Json:
    keys = [f"user-{number}" for number in range(count)]
    took: list[float] = []
    wrong: list[str] = []
    began = time.perf_counter()
    await asyncio.gather(*(_ask(port, keys[n::CONNECTIONS], took, wrong) for n in range(CONNECTIONS)))
    return {
        "per_second": round(count / (time.perf_counter() - began)),
        "milliseconds": asdict(figures(took, 2)),
        "evaluations": count,
        "wrong": len(wrong),
    }


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _ask(port: int, keys: list[str], took: list[float], wrong: list[str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /ofrep/v1/evaluate/flags/{NAME} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    for key in keys:
        body = f'{{"context":{{"targetingKey":"{key}"}}}}'
        began = time.perf_counter()
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        found = await reader.readexactly(int(length.split(b":")[1]))
        took.append((time.perf_counter() - began) * 1e3)
        if (b'"value":true' in found) != (side_of(key, WEIGHT) == UNIT):
            wrong.append(key)
    writer.close()
