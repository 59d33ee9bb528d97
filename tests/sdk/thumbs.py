"""A boundary as a program has it: the tests call it as its parent, and serve it as its unit."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass

from spinyard_sdk.boundary import boundary
from spinyard_sdk.context import remaining
from spinyard_sdk.tracing import current

PLACE: dict[int, str] = {}
"""thread to "unit", where the tests serve this module"""
RAN: list[tuple[str, str]] = []
BEGAN = threading.Event()
STOPPED = threading.Event()
REMAINING: list[float | None] = []
TRACES: list[str] = []


def ran(what: str) -> str:
    where = "unit" if threading.current_thread().name.startswith("spinyard-unit") or in_unit_loop() else "parent"
    RAN.append((where, what))
    return where


def in_unit_loop() -> bool:
    try:
        return id(asyncio.get_running_loop()) in PLACE
    except RuntimeError:
        return False


class NoSuchPhoto(Exception):
    def __init__(self, photo: str, sizes: list[int]) -> None:
        super().__init__(f"no photo {photo}")
        self.photo = photo
        self.sizes = sizes


@dataclass
class Thumb:
    photo: str
    size: int
    where: str
    data: bytes


@boundary("thumbs", key=lambda photo, size=1: photo, raises=(NoSuchPhoto,), safe=True, timeout=2.0)
def render(photo: str, size: int = 1) -> Thumb:
    where = ran("render")
    REMAINING.append(remaining())
    TRACES.append(getattr(current(), "trace_id", ""))
    if photo.startswith("missing"):
        raise NoSuchPhoto(photo, [size])
    if photo.startswith("broken"):
        raise ValueError("secret words")
    return Thumb(photo, size, where, bytes(range(256)))


@boundary("thumbs", key=lambda photo, seconds: photo, timeout=2.0)
async def render_slowly(photo: str, seconds: float) -> str:
    where = ran("render_slowly")
    BEGAN.set()
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        STOPPED.set()
        raise
    return where


@boundary("thumbs", key=lambda photo: photo, raises=(NoSuchPhoto,), safe=True)
async def find(photo: str) -> str:
    where = ran("find")
    if photo.startswith("missing"):
        raise NoSuchPhoto(photo, [])
    return where


@boundary("thumbs", key=lambda photo: photo, timeout=0.5)
def sleep(photo: str) -> str:
    where = ran("sleep")
    time.sleep(1.0)
    return where


@boundary("thumbs", key=lambda photo: photo)
def store(photo: str) -> str:
    return ran("store")


@boundary("thumbs", key=lambda photo: photo, idempotent=True)
def store_again(photo: str) -> str:
    return ran("store_again")


@boundary("thumbs", key=lambda photo: photo, safe=True)
def where_it_ran(photo: str) -> str:
    """Its answer differs between the sides."""
    return ran("where_it_ran")


@boundary("thumbs", key=lambda photo, tags: photo, safe=True)
def sort_tags(photo: str, tags: list[str]) -> list[str]:
    """Changes its argument, and what it has returned is the caller's."""
    ran("sort_tags")
    tags.sort()
    return tags


@boundary("thumbs", key=lambda photo, number: photo)
def odd(photo: str, number: float) -> float:
    ran("odd")
    return number


@boundary("thumbs")
def by_request() -> str:
    return ran("by_request")


@boundary("albums", key=lambda album, *rest, **more: album, safe=("count",))
class Albums:
    def __init__(self) -> None:
        self._made = 0

    def count(self, album: str, *more: int, by: int = 1, **named: int) -> int:
        ran("count")
        return by + sum(more) + sum(named.values())

    async def rename(self, album: str, name: str) -> str:
        return f"{ran('rename')}:{name}"

    @staticmethod
    def shape(album: str) -> str:
        return ran("shape")

    def _private(self) -> str:
        return ran("_private")
