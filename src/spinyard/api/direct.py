"""Claims past the framework: they come by the hundred in a second, and to be routed and taken apart for them costs more
than the claim. What does not look quite ordinary goes the way of all other requests, and is answered the same there.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spinyard.api.documented import ClaimBody

_NAME: Final = r"([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
PATH: Final = re.compile(rf"/v1/namespaces/{_NAME}/warmpools/{_NAME}/claims")
JSON: Final = (b"content-type", b"application/json")

Claim = Callable[[Request, str, str, ClaimBody], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Route:
    """What the figures of requests ask of a route."""

    path: str


class DirectClaims:
    """ASGI middleware inside of the guard, which gives the body whole and in one message."""

    def __init__(self, app: ASGIApp, *, claim: Claim, route: str) -> None:
        self._app = app
        self._claim = claim
        self._route = _Route(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = PATH.fullmatch(scope["path"]) if _may_be_direct(scope) else None
        if found is None:
            await self._app(scope, receive, send)
            return
        message = await receive()
        again = _replay(message, receive)
        body = _body_of(message)
        if body is None:
            await self._app(scope, again, send)
            return
        scope["route"] = self._route
        response = await self._claim(Request(scope, again), found[1], found[2], body)
        await response(scope, again, send)


def _may_be_direct(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "POST"
        and not scope["query_string"]
        and not scope.get("root_path")
        and JSON in scope["headers"]
    )


def _body_of(message: Message) -> ClaimBody | None:
    """None: whatever it is, the framework says what is wrong with it."""
    if message["type"] != "http.request" or message.get("more_body") or not message.get("body"):
        return None
    try:
        return ClaimBody.model_validate_json(message["body"])
    except ValidationError:
        return None


def _replay(message: Message, receive: Receive) -> Receive:
    left = [message]

    async def inner() -> Message:
        return left.pop() if left else await receive()

    return inner
