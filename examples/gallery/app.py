"""The gallery: one process per instance, all instances share one directory.

    PORT=8001 GALLERY_DATA=/tmp/gallery python -m examples.gallery.app

It listens first and opens the store second, as slow applications do; until then it is not ready and says so. On SIGTERM
it answers what is in flight and leaves with exit code 0. Plain Starlette: FastAPI would double the time to start.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive

if not __package__:  # run as a file: the folder that holds `examples` is needed, not the one that holds this file
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from examples.gallery.gate import Gate
from examples.gallery.page import CONTENT_POLICY, render_page
from examples.gallery.problems import Problem
from examples.gallery.serve import listen, say, serve
from examples.gallery.settings import Settings, read_settings
from examples.gallery.store import Comment, Photo, Store
from examples.gallery.thumbnails import SIZE_MAX, SIZE_MIN, THUMBNAIL_TYPE, render_thumbnail
from examples.gallery.validate import validate_photo

T = TypeVar("T")

PAGE_PHOTOS_MAX = 24
PAGE_COMMENTS_MAX = 5
LIST_PHOTOS_MAX = 200
LIST_COMMENTS_MAX = 200
TITLE_MAX, AUTHOR_MAX, TEXT_MAX = 120, 60, 1_000
COMMENT_BYTES_MAX = 16 * 1024


class Gallery:
    """The handlers. Everything that blocks runs in `_threads`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store(settings.data, photos_max=settings.photos_max)
        self._threads = ThreadPoolExecutor(settings.threads_max, thread_name_prefix="gallery")
        routes = [
            Route("/", self.page),
            Route("/photos", self.list_photos),
            Route("/photos", self.upload, methods=["POST"]),
            Route("/photos/{id}", self.describe),
            Route("/photos/{id}/raw", self.raw),
            Route("/photos/{id}/thumb/{size:int}", self.thumb),
            Route("/photos/{id}/comments", self.comment, methods=["POST"]),
            Route("/healthz", self.healthz),
            Route("/version", self.version),
            Route("/stats", self.stats),
        ]
        answers: dict[Any, Any] = {Problem: _problem, HTTPException: _http_problem}
        answers |= {sqlite3.OperationalError: _store_problem, OSError: _store_problem}
        app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=answers)
        self.gate = Gate(app, settings, self._store.note_refused)

    # -- reading

    async def page(self, request: Request) -> Response:
        def read() -> tuple[list[Photo], dict[str, list[Comment]], int]:
            photos = self._store.list_photos(PAGE_PHOTOS_MAX)
            said = {photo.id: self._store.list_comments(photo.id, PAGE_COMMENTS_MAX) for photo in photos}
            return photos, said, self._store.count_photos()

        photos, said, total = await self._in_thread(read)
        html = render_page(photos, said, total, self._settings.instance, self._settings.version)
        return HTMLResponse(html, headers={"content-security-policy": CONTENT_POLICY})

    async def list_photos(self, request: Request) -> Response:
        limit = _whole_number(request.query_params.get("limit", "50"), 1, LIST_PHOTOS_MAX, "limit")
        before = request.query_params.get("before")
        photos = await self._in_thread(lambda: self._store.list_photos(limit, before))
        following = photos[-1].id if len(photos) == limit else None
        return JSONResponse({"items": [asdict(photo) for photo in photos], "next": following})

    async def describe(self, request: Request) -> Response:
        def read() -> dict[str, object]:
            photo = self._store.get_photo(request.path_params["id"])
            comments = self._store.list_comments(photo.id, LIST_COMMENTS_MAX)
            return {**asdict(photo), "comments": [asdict(comment) for comment in comments]}

        return JSONResponse(await self._in_thread(read))

    async def raw(self, request: Request) -> Response:
        def read() -> tuple[Photo, bytes]:
            photo = self._store.get_photo(request.path_params["id"])
            return photo, self._store.get_bytes(photo)

        photo, data = await self._in_thread(read)
        headers = {"etag": f'"{photo.sha256}"', "x-content-type-options": "nosniff"}
        return Response(data, media_type=photo.media_type, headers=headers)

    async def thumb(self, request: Request) -> Response:
        size = int(request.path_params["size"])
        if not SIZE_MIN <= size <= SIZE_MAX:
            raise Problem(422, "size-out-of-range", f"A thumbnail has {SIZE_MIN} to {SIZE_MAX} pixels.")

        def render() -> bytes:  # not cached, on purpose: this is the load that is carried out of the gallery later
            return render_thumbnail(self._store.get_bytes(self._store.get_photo(request.path_params["id"])), size)

        data = await self._in_thread(render)
        return Response(data, media_type=THUMBNAIL_TYPE, headers={"cache-control": "no-store"})

    # -- writing

    async def upload(self, request: Request) -> Response:
        key = _idempotency_key(request)
        data, title, is_form = await _read_upload(_bounded(request, self._settings.body_bytes_max))

        def keep() -> tuple[Photo, bool]:
            return self._store.add_photo(data, validate_photo(data), title, key)

        photo, is_new = await self._in_thread(keep)
        if is_form and _wants_html(request):
            return RedirectResponse("/", 303)
        return _created(asdict(photo), is_new, f"/photos/{photo.id}")

    async def comment(self, request: Request) -> Response:
        key, photo_id = _idempotency_key(request), request.path_params["id"]
        author, text = await _read_comment(_bounded(request, COMMENT_BYTES_MAX))
        comment, is_new = await self._in_thread(lambda: self._store.add_comment(photo_id, author, text, key))
        if _wants_html(request):
            return RedirectResponse("/", 303)
        return _created(asdict(comment), is_new, f"/photos/{photo_id}")

    # -- about this instance

    async def healthz(self, request: Request) -> Response:
        if self.gate.is_stopping or not self.gate.is_ready:
            return JSONResponse({"ready": False, "stopping": self.gate.is_stopping}, 503)
        return JSONResponse({"ready": True})

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": self._settings.version, "instance": self._settings.instance})

    async def stats(self, request: Request) -> Response:
        everywhere = await self._in_thread(self._store.count_refused)
        return JSONResponse({**self.gate.as_dict(), "received_while_not_ready_all_instances": everywhere})

    # -- below: life and threads

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        opening = asyncio.create_task(self._open())
        try:
            yield
        finally:
            opening.cancel()
            self._threads.shutdown(wait=True, cancel_futures=True)

    async def _open(self) -> None:
        try:
            await asyncio.sleep(self._settings.warmup_seconds)
            await self._in_thread(self._store.open)
        except (OSError, sqlite3.Error) as broken:
            say("failed", why=f"the store in {self._settings.data} cannot be opened: {broken}")
            signal.raise_signal(signal.SIGTERM)
            return
        self.gate.is_ready = True
        say("ready", instance=self._settings.instance, version=self._settings.version)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def main() -> int:
    settings = read_settings()
    gallery = Gallery(settings)
    try:
        listener = listen(settings.host, settings.port)
    except OSError as taken:
        raise SystemExit(f"gallery: cannot listen on {settings.host}:{settings.port}: {taken.strerror}") from taken
    say("listening", host=settings.host, port=listener.getsockname()[1])
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it again at its end, which must not kill us then
        signal.signal(number, lambda *_: None)
    serve(gallery.gate, listener, grace_seconds=settings.grace_seconds)
    say("stopped", **gallery.gate.as_dict())
    return 0 if gallery.gate.is_ready else 1


def _bounded(request: Request, limit: int) -> Request:
    """The same request, whose body ends in 413 beyond `limit` bytes. What is sent beyond it is read and thrown away, up
    to three times as much, so that the sender sees the answer and not a reset."""
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        while seen > limit:
            if not message.get("more_body") or seen > 4 * limit:
                raise Problem(413, "body-too-large", f"At most {limit} bytes.")
            message = await request.receive()
            seen += len(message.get("body", b""))
        return message

    bounded: Receive = receive
    return Request(request.scope, bounded)


async def _read_upload(request: Request) -> tuple[bytes, str, bool]:
    """The photo's bytes, its title, and whether they came in a form."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await request.body(), request.query_params.get("title", "")[:TITLE_MAX], False
    async with request.form(max_files=1, max_fields=8) as form:
        photo, title = form.get("photo"), form.get("title", "")
        if not isinstance(photo, UploadFile):
            raise Problem(400, "no-photo", "The form has no file field named 'photo'.")
        return await photo.read(), str(title)[:TITLE_MAX], True


async def _read_comment(request: Request) -> tuple[str, str]:
    kind = request.headers.get("content-type", "")
    if kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
        async with request.form(max_files=0, max_fields=8) as form:
            fields: object = {name: value for name, value in form.items() if isinstance(value, str)}
    else:
        try:
            fields = json.loads(await request.body())
        except (ValueError, RecursionError) as broken:
            raise Problem(400, "not-json", 'Send {"author": "…", "text": "…"}.') from broken
    if not isinstance(fields, dict):
        raise Problem(400, "not-json", 'Send {"author": "…", "text": "…"}.')
    return _text(fields, "author", AUTHOR_MAX), _text(fields, "text", TEXT_MAX)


def _text(fields: dict[str, object], name: str, limit: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > limit or not value.isprintable():
        raise Problem(422, f"bad-{name}", f"{name!r} must be text of 1 to {limit} printable characters.")
    return value.strip()


def _whole_number(text: str, low: int, high: int, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not low <= int(text) <= high:
        raise Problem(422, f"bad-{name}", f"{name!r} must be a whole number from {low} to {high}.")
    return int(text)


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (1 <= len(key) <= 255 and key.isprintable()):
        raise Problem(400, "bad-idempotency-key", "An Idempotency-Key has 1 to 255 printable characters.")
    return key


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _created(body: dict[str, object], is_new: bool, location: str) -> Response:
    headers = {"location": location} if is_new else {"location": location, "idempotency-replayed": "true"}
    return JSONResponse(body, 201 if is_new else 200, headers=headers)


async def _problem(request: Request, problem: Problem) -> Response:
    headers = {"connection": "close"} if problem.status == 413 else None
    return JSONResponse(problem.as_dict(), problem.status, headers=headers, media_type="application/problem+json")


async def _http_problem(request: Request, error: HTTPException) -> Response:
    code = error.detail.lower().replace(" ", "-")[:80]
    problem = Problem(error.status_code, code, error.detail)
    return JSONResponse(problem.as_dict(), problem.status, headers=error.headers, media_type="application/problem+json")


async def _store_problem(request: Request, error: Exception) -> Response:
    """Locked for too long, disk full, file gone: ours, worth another try, never a stack trace."""
    say("store-error", path=request.url.path, why=str(error))
    problem = Problem(503, "store-unavailable", "The store cannot be used right now; nothing was changed.")
    return JSONResponse(problem.as_dict(), 503, headers={"retry-after": "1"}, media_type="application/problem+json")


if __name__ == "__main__":
    sys.exit(main())
