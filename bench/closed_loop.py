"""Load in a closed loop: so many connections, each sends its next POST when the last one is answered.

A process of its own, told by lines on stdin: first what to do (JSON), then "go". One JSON line comes out. Bodies are
`{"name": "<prefix><number>"}`; answers are read and kept, and looked at only after the last one.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from bench.home import ROOT

Json = dict[str, Any]
MADE = 201


@dataclass(frozen=True, slots=True)
class Answers:
    seconds: float
    """from the first request that was sent by any process to the last answer of any"""
    milliseconds: list[float]
    bodies: list[Json]
    """of those that answered 201"""
    refused: list[str]
    cpu_seconds: float
    """of the processes that made the load"""


def run(
    address: str, path: str, headers: dict[str, str], count: int, *, processes: int, connections: int, env: Json
) -> Answers:
    children = [
        subprocess.Popen([sys.executable, "-m", __spec__.name], cwd=ROOT, env=env, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
        for _ in range(processes)
    ]  # fmt: skip
    try:
        for index, child in enumerate(children):
            share = count // processes + (index < count % processes)
            task = {"address": address, "path": path, "headers": headers, "count": share, "prefix": f"c{index}-",
                    "connections": connections}  # fmt: skip
            _tell(child, json.dumps(task))
        for child in children:
            assert child.stdout is not None
            if child.stdout.readline() != b"connected\n":
                raise RuntimeError(f"a process of the load did not connect to {address}")
        for child in children:
            _tell(child, "go")
        return _together([json.loads(child.communicate(timeout=300)[0]) for child in children])
    finally:
        for child in children:
            child.kill()
            child.wait()


def _tell(child: subprocess.Popen[bytes], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(line.encode() + b"\n")
    child.stdin.flush()


def _together(found: Sequence[Json]) -> Answers:
    """perf_counter is the machine's monotonic clock: the same in every process."""
    return Answers(
        seconds=max(one["ended"] for one in found) - min(one["began"] for one in found),
        milliseconds=[taken for one in found for taken in one["milliseconds"]],
        bodies=[json.loads(body) for one in found for body in one["bodies"]],
        refused=[text for one in found for text in one["refused"]],
        cpu_seconds=sum(one["cpu_seconds"] for one in found),
    )


# -- the child's side --------------------------------------------------------------------------------------------------


async def _main(task: Json) -> None:
    host, _, port = task["address"].rpartition(":")
    pairs = [await asyncio.open_connection(host, int(port)) for _ in range(task["connections"])]
    for _, writer in pairs:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print("connected", flush=True)
    if sys.stdin.readline() != "go\n":
        return
    head = f"POST {task['path']} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in task["headers"].items())
    requests = (_request(head, f"{task['prefix']}{number}") for number in range(task["count"]))
    found: Json = {"milliseconds": [], "bodies": [], "refused": []}
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(_ask(reader, writer, requests, found) for reader, writer in pairs))
    found |= {"began": began, "ended": time.perf_counter(), "cpu_seconds": time.process_time() - cpu}
    print(json.dumps(found), flush=True)


def _request(head: str, name: str) -> bytes:
    body = json.dumps({"name": name})
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: Iterator[bytes], found: Json
) -> None:
    for request in requests:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = (await reader.readexactly(int(length.split(b":")[1]))).decode()
        status = int(head[9:12])
        if status == MADE:
            found["milliseconds"].append((time.perf_counter() - began) * 1000)
            found["bodies"].append(body)
        else:
            found["refused"].append(f"{status} {body[:300]}")
    writer.close()


if __name__ == "__main__":
    uvloop.run(_main(json.loads(sys.stdin.readline())))
