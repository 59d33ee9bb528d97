"""A small backend in a process of its own: `backend.py NAME PORT [unready]`. Stands on asyncio only.

/           NAME            /echo     the request, as JSON        /slow?s=  answers after s seconds
/health     200, or 503 while unready (POST /ready, /unready)     /status/N that status, body "mine"
/sse?n=&s=  n events, s seconds apart                             /hits     how many requests, and how many unready
/die?who=X  X exits without an answer after the body was read, others answer
/drop?n=    the first n requests of this path and query get no answer, their connection is closed; later ones do
/cut        the connection is closed in the middle of the answer
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import socket
import sys
from urllib.parse import parse_qs, urlsplit

NAME, PORT = sys.argv[1], int(sys.argv[2])
state = {"ready": "unready" not in sys.argv[3:], "hits": 0, "hits_unready": 0}
dropped: dict[str, int] = {}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while await one(reader, writer):
            pass
    except (ConnectionError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    headers = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in head[1:] if line}
    url, body = urlsplit(target), await read_body(reader, headers)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    if url.path not in ("/health", "/ready", "/unready", "/hits"):
        state["hits"] += 1
        state["hits_unready"] += not state["ready"]
    if headers.get("upgrade", "").lower() == "websocket":
        await websocket(reader, writer, headers)
        return False
    if url.path == "/sse":
        await events(writer, int(query["n"]), float(query["s"]))
        return False
    if url.path == "/die" and query["who"] == NAME:
        os._exit(9)
    if url.path == "/drop" and dropped.setdefault(url.query, 0) < int(query["n"]):
        dropped[url.query] += 1
        return False
    if url.path == "/cut":
        writer.write(b"HTTP/1.1 200 x\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        return False
    if url.path == "/slow":
        await asyncio.sleep(float(query["s"]))
    status, text = answer(method, url.path, headers, body)
    writer.write(
        f"HTTP/1.1 {status} x\r\ncontent-length: {len(text)}\r\nx-instance: {NAME}\r\n\r\n".encode() + text.encode()
    )
    await writer.drain()
    return True


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body
    return await reader.readexactly(int(headers.get("content-length", 0)))


def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
    if path == "/health":
        return (200, "ok") if state["ready"] else (503, "not ready")
    if path in ("/ready", "/unready"):
        state["ready"] = path == "/ready"
        return 200, ""
    if path == "/hits":
        return 200, json.dumps(state)
    if path.startswith("/status/"):
        return int(path.split("/")[2]), "mine"
    if path.endswith("/echo"):
        echo = {"name": NAME, "method": method, "path": path, "headers": headers, "body_bytes": len(body)}
        return 200, json.dumps(echo)
    return 200, NAME


async def events(writer: asyncio.StreamWriter, count: int, seconds: float) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    for number in range(count):
        writer.write(f"data: {number}\n\n".encode())
        await writer.drain()
        await asyncio.sleep(seconds)


async def websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
    """Echoes small text frames until the close frame."""
    secret = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    digest = hashlib.sha1(secret.encode(), usedforsecurity=False).digest()
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: "
        + base64.b64encode(digest)
        + b"\r\n\r\n"
    )
    while True:
        first, second = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        data = bytes(b ^ mask[i % 4] for i, b in enumerate(await reader.readexactly(second & 0x7F)))
        writer.write(bytes([first, len(data)]) + data)
        await writer.drain()
        if first & 0xF == 8:
            return


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", PORT, backlog=512, limit=1 << 22)
    await server.serve_forever()


asyncio.run(main())
