"""Parent and unit for the test over the whole of Spinyard: `uvicorn --factory tests.sdk.pics:parent` or `:unit`."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from typing import Any

from spinyard_sdk.boundary import boundary, counts
from spinyard_sdk.context import AsgiRequests
from spinyard_sdk.unit import serve


@boundary("pics", key=lambda photo: photo, safe=True)
def render(photo: str) -> str:
    return os.environ["SPINYARD_SERVICE"]


def unit() -> Any:
    return serve(render)


def parent() -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/healthz":
            body = "ok"
        elif path == "/counts":
            body = json.dumps(asdict(counts()["pics"]))
        else:
            body = await asyncio.to_thread(render, path.rsplit("/", 1)[-1])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body.encode()})

    return AsgiRequests(app)
