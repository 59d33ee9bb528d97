"""The unit: thumbnails, carried out of the gallery into a service of its own.

    PORT=8002 GALLERY_URL=http://127.0.0.1:8080 python -m examples.gallery.thumbs

It answers `GET /photos/{id}/thumb/{size}` byte for byte as the gallery does, and owns no photo: it asks the gallery for
the original, which never changes, and keeps the last few. THUMBS_FAIL_RATE and THUMBS_DELAY_MS make a bad version of
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import sys
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if not __package__:  # run as a file: the folder that holds `examples` is needed, not the one that holds this file
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from examples.gallery.gate import Gate
from examples.gallery.problems import Problem
from examples.gallery.serve import listen, say, serve
from examples.gallery.settings import Settings, number
from examples.gallery.thumbnails import SIZE_MAX, SIZE_MIN, THUMBNAIL_TYPE, render_thumbnail

ORIGINALS_KEPT_MAX = 64
FETCH_SECONDS_MAX = 10.0


class Originals:
    """The photos as the gallery has them, over one connection for each thread. Raises Problem."""

    def __init__(self, url: str, host: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise SystemExit(f"thumbs: GALLERY_URL is written http://HOST:PORT, not {url!r}")
        self._address, self._host = f"{parts.hostname}:{parts.port or 80}", host
        self._connections = threading.local()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, photo: str) -> bytes:
        with self._lock:
            if photo in self._kept:
                self._kept.move_to_end(photo)
                return self._kept[photo]
        data = self._fetch(photo)
        with self._lock:
            self._kept[photo] = data
            while len(self._kept) > ORIGINALS_KEPT_MAX:
                self._kept.popitem(last=False)
        return data

    def _fetch(self, photo: str) -> bytes:
        """A kept connection that the other end has closed meanwhile is opened once more: it is a read."""
        for attempt in (1, 2):
            connection = self._connection(fresh=attempt == 2)
            try:
                connection.request("GET", f"/photos/{photo}/raw", headers={"Host": self._host})
                answer = connection.getresponse()
                data = answer.read()
                break
            except (OSError, http.client.HTTPException) as broken:
                if attempt == 2:
                    raise Problem(502, "gallery-unreachable", f"The gallery did not give the photo: {broken}") from None
        if answer.status == 404:
            raise Problem(404, "no-such-photo", f"There is no photo {photo!r}.")
        if answer.status != 200:
            raise Problem(502, "gallery-failed", f"The gallery answered {answer.status}.")
        return data

    def _connection(self, *, fresh: bool) -> http.client.HTTPConnection:
        known: http.client.HTTPConnection | None = getattr(self._connections, "one", None)
        if known is None or fresh:
            if known is not None:
                known.close()
            known = self._connections.one = http.client.HTTPConnection(self._address, timeout=FETCH_SECONDS_MAX)
        return known


class Thumbs:
    def __init__(self, settings: Settings, originals: Originals) -> None:
        self._originals = originals
        self._threads = ThreadPoolExecutor(settings.threads_max, thread_name_prefix="thumbs")
        routes = [
            Route("/photos/{id}/thumb/{size:int}", self.thumb),
            Route("/healthz", self.healthz),
        ]
        app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers={Problem: _problem})
        self.gate = Gate(app, settings, lambda: None)
        self.gate.is_ready = True

    async def thumb(self, request: Request) -> Response:
        photo, size = request.path_params["id"], int(request.path_params["size"])
        if not SIZE_MIN <= size <= SIZE_MAX:
            raise Problem(422, "size-out-of-range", f"A thumbnail has {SIZE_MIN} to {SIZE_MAX} pixels.")

        def render() -> bytes:
            return render_thumbnail(self._originals.get(photo), size)

        data = await asyncio.get_running_loop().run_in_executor(self._threads, render)
        return Response(data, media_type=THUMBNAIL_TYPE, headers={"cache-control": "no-store"})

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"ready": not self.gate.is_stopping}, 503 if self.gate.is_stopping else 200)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._threads.shutdown(wait=True, cancel_futures=True)


async def _problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return JSONResponse(problem.as_dict(), problem.status, media_type="application/problem+json")


def main() -> int:
    env = os.environ
    settings = Settings(
        data=Path("/nonexistent"),  # it has none
        host=env.get("HOST", "127.0.0.1"),
        port=int(number(env, "PORT", 8002)),
        version=env.get("THUMBS_VERSION", "1"),
        instance=env.get("SPINYARD_SPIN") or str(os.getpid()),
        fail_rate=number(env, "THUMBS_FAIL_RATE", 0.0),
        delay_seconds=number(env, "THUMBS_DELAY_MS", 0.0) / 1000,
        threads_max=2,
    )
    originals = Originals(env.get("GALLERY_URL", "http://127.0.0.1:8080"), env.get("GALLERY_HOST", "gallery.localhost"))
    thumbs = Thumbs(settings, originals)
    try:
        listener = listen(settings.host, settings.port)
    except OSError as taken:
        raise SystemExit(f"thumbs: cannot listen on {settings.host}:{settings.port}: {taken.strerror}") from taken
    say("listening", host=settings.host, port=listener.getsockname()[1])
    for signum in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it again at its end, which must not kill us then
        signal.signal(signum, lambda *_: None)
    serve(thumbs.gate, listener, grace_seconds=settings.grace_seconds)
    say("stopped", **thumbs.gate.as_dict())
    return 0


if __name__ == "__main__":
    sys.exit(main())
