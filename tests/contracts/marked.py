"""A boundary with many kinds of types: its contract is extracted, and it is served by the SDK."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec

from spinyard_sdk.boundary import boundary


class Kind(enum.Enum):
    SMALL = "small"
    BIG = "big"


class Box(TypedDict, total=False):
    width: Annotated[int, msgspec.Meta(ge=1, le=4000)]
    height: int


class Point(NamedTuple):
    x: float
    y: float


class Filter(msgspec.Struct, forbid_unknown_fields=True):
    names: set[str] = msgspec.field(default_factory=set)
    price: Decimal | None = None


@dataclass
class Thumbnail:
    data: bytes
    kind: Kind
    made_at: datetime
    day: date
    where: Point
    id: UUID
    others: list[Thumbnail] = field(default_factory=list)


@boundary("thumbnails")
class Thumbnails:
    def draw(self, photo: bytes, kind: Kind, at: datetime, boxes: list[Box], mode: Literal["fit", 2] = 2) -> Thumbnail:
        made = Thumbnail(photo, kind, datetime(2026, 1, 2, tzinfo=UTC), date(2026, 1, 2), Point(1, 2), UUID(int=1))
        return Thumbnail(**{**vars(made), "others": [made]})

    async def move(self, where: Point, ids: dict[str, UUID], by: tuple[int, ...] = ()) -> Point | None:
        return where if ids else None

    def tags(self, *names: str, **more: int) -> Annotated[list[str], msgspec.Meta(max_length=3)]:
        return [*names, *more][:3]

    @staticmethod
    def count(filter: Filter, days: frozenset[date] = frozenset()) -> None:
        return None
