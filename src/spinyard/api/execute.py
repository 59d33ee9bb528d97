"""Commands run beside a spin: one answer at the end, or its output as lines of JSON while it runs.

A line is `{"type": "stdout"|"stderr", "data": BASE64}`, `{"type": "heartbeat"}`, at the end
`{"type": "exit", "exitCode": N, "why": ""}`, or `{"type": "error", "problem": {...}}` when that will never be known.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.responses import Response

from spinyard.api.calls import Calls
from spinyard.api.deps import ExecPart
from spinyard.api.documented import ExecBody
from spinyard.api.problems import problem_json
from spinyard.api.render import respond_json
from spinyard.api.streams import Streams
from spinyard.core.ids import Uid
from spinyard.errors import InvalidInput, SpinyardError

SECONDS_MAX = 600.0
"""of a command whose output comes at the end"""
MEDIA_TYPE = "application/x-ndjson"
Pieces = AsyncGenerator[ExecPart, None]


async def execute(calls: Calls, streams: Streams, uid: Uid, body: ExecBody) -> Response:
    """Raises InvalidInput (command_not_found, command_not_executable), ProviderFailure, TooMany."""
    if body.stream:
        streams.raise_if_full()
        pieces = calls.deps.stream(uid, body.command, body.timeoutSeconds)
        # What cannot be started is an answer of its own, not a stream.
        first = await anext(pieces)
        return streams.respond(lines(pieces, first, calls.deps.limits.heartbeat_seconds), media_type=MEDIA_TYPE)
    if body.timeoutSeconds > SECONDS_MAX:
        raise InvalidInput(
            f"timeoutSeconds: at most {SECONDS_MAX:g} for a command whose output comes at its end.",
            next_step="Ask with stream: true.",
        )
    result = await calls.deps.execute(uid, body.command, body.timeoutSeconds)
    return respond_json({"exitCode": result.exit_code, "output": result.output})


async def lines(pieces: Pieces, first: ExecPart, heartbeat_seconds: float) -> AsyncGenerator[bytes, None]:
    """One piece is read when the one before was taken: a slow reader slows the command. Closing it ends the command."""
    async with aclosing(pieces):
        if first.type != "started":
            yield _line(first)
        waiting: asyncio.Task[ExecPart | None] | None = None
        try:
            while True:
                waiting = waiting or asyncio.create_task(_next(pieces))
                done, _ = await asyncio.wait({waiting}, timeout=heartbeat_seconds)
                if not done:
                    yield b'{"type":"heartbeat"}\n'
                    continue
                piece, waiting = waiting.result(), None
                if piece is None:
                    return
                yield _line(piece)
        except SpinyardError as error:
            yield msgspec.json.encode({"type": "error", "problem": problem_json(error)}) + b"\n"
        finally:
            if waiting is not None and not waiting.done():
                waiting.cancel()
                await asyncio.wait({waiting})


def _line(piece: ExecPart) -> bytes:
    if piece.type == "exit":
        fields: dict[str, object] = {"type": "exit", "exitCode": piece.exit_code, "why": piece.why}
    else:
        fields = {"type": piece.type, "data": b64encode(piece.data).decode()}
    return msgspec.json.encode(fields) + b"\n"


async def _next(pieces: Pieces) -> ExecPart | None:
    return await anext(pieces, None)
