"""A small unit, whose contract is that of `app`. `make(breaks=True)` says the same and does other things."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, Field

BREAKS = ("fails", "lies", "undeclared", "redirects", "plain", "hangs")
KNOWN = 7


class Photo(BaseModel):
    id: int
    name: str = Field(max_length=20)


def make(*, breaks: bool = False) -> FastAPI:
    app = FastAPI(title="photos", version="1", openapi_url="/openapi.json")

    @app.get("/photos/{id}", responses={404: {"description": "no such photo"}})
    def read(id: int) -> Photo:
        if id != KNOWN:
            raise HTTPException(404)
        return Photo(id=id, name="a")

    @app.put("/photos/{id}")
    def write(id: int, photo: Photo) -> Photo:
        return photo

    for name in BREAKS:
        app.post(f"/{name}", name=name)(write_one)
    if breaks:
        app.middleware("http")(spoil)
    return app


def write_one(photo: Photo) -> Photo:
    return photo


async def spoil(request: Request, go_on: Any) -> Any:
    match request.url.path:
        case "/fails":
            return Response('{"detail": "boom"}', 500, media_type="application/json")
        case "/lies":
            return Response('{"id": "one", "name": "a"}', 200, media_type="application/json")
        case "/undeclared":
            return Response(status_code=201)
        case "/redirects":
            return Response(status_code=307, headers={"location": "http://192.0.2.1/elsewhere"})
        case "/plain":
            return Response("well", media_type="text/plain")
        case "/hangs":
            await asyncio.sleep(3600)
    return await go_on(request)


app = make()


@contextmanager
def serving(application: Any) -> Iterator[str]:
    """Its address, while it runs in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(application, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
