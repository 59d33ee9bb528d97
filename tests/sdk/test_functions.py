"""Whatever its hints allow comes over a boundary as it left."""

from __future__ import annotations

import datetime
import decimal
import enum
import inspect
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinyard_sdk.failures import NotTyped
from spinyard_sdk.functions import Function, codec_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Box:
    name: str
    data: bytes = b""
    inner: list[Box] = field(default_factory=list)


class Point(NamedTuple):
    x: int
    y: float


class Named(TypedDict):
    name: str
    size: int


class Packed(msgspec.Struct):
    at: datetime.datetime
    cost: decimal.Decimal


def everything(
    text: str,
    data: bytes,
    /,
    number: int | None,
    share: float,
    *rest: bool,
    box: Box,
    colour: Colour = Colour.RED,
    points: tuple[Point, ...] = (),
    names: frozenset[str] = frozenset(),
    named: Named | None = None,
    packed: Packed | None = None,
    key: uuid.UUID | None = None,
    which: Literal["a", "b"] = "a",
    **more: dict[str, int],
) -> Any: ...


texts = st.text(max_size=20)
numbers = st.integers(-(2**63), 2**64 - 1)
shares = st.floats(allow_nan=False, allow_infinity=False)
boxes = st.recursive(
    st.builds(Box, texts, st.binary(max_size=50)),
    lambda inner: st.builds(Box, texts, st.binary(max_size=9), st.lists(inner, max_size=3)),
    max_leaves=5,
)
options = {
    "colour": st.sampled_from(Colour),
    "points": st.lists(st.builds(Point, numbers, shares), max_size=3).map(tuple),
    "names": st.frozensets(texts, max_size=3),
    "named": st.fixed_dictionaries({"name": texts, "size": numbers}),
    "packed": st.builds(
        Packed,
        st.datetimes(timezones=st.just(datetime.UTC)),
        st.decimals(allow_nan=False, allow_infinity=False),
    ),
    "key": st.uuids(),
    "which": st.sampled_from(["a", "b"]),
    "anything_else": st.dictionaries(texts, numbers, max_size=3),
}


@given(
    st.tuples(texts, st.binary(max_size=300), st.none() | numbers, shares),
    st.lists(st.booleans(), max_size=3),
    st.fixed_dictionaries({"box": boxes}, optional=options),
)
@settings(max_examples=150, deadline=None)
def test_arguments_arrive_as_they_left(first: tuple[Any, ...], rest: list[bool], named: dict[str, Any]) -> None:
    codec = codec_of(Function("b", "everything", everything, None))
    args, kwargs = codec.decode(codec.encode((*first, *rest), named))
    signature = inspect.signature(everything)
    assert signature.bind(*args, **kwargs).arguments == signature.bind(*first, *rest, **named).arguments


@given(boxes)
@settings(max_examples=50, deadline=None)
def test_results_arrive_as_they_left(box: Box) -> None:
    def one() -> Box: ...  # type: ignore[empty-body]

    codec = codec_of(Function("b", "one", one, None))
    assert codec.decode_result(codec.encode_result(box)) == box


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_body_does_more_than_fail_to_decode(body: bytes) -> None:
    codec = codec_of(Function("b", "everything", everything, None))
    try:
        args, kwargs = codec.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    inspect.signature(everything).bind(*args, **kwargs)


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b'{"text":1}', b'{"text":"a","other":1}', b"nul"],
    ids=["nothing", "list", "other type", "unknown", "cut"],
)
def test_arguments_that_do_not_fit_are_refused(body: bytes) -> None:
    def one(text: str) -> str: ...  # type: ignore[empty-body]

    with pytest.raises(msgspec.DecodeError):
        codec_of(Function("b", "one", one, None)).decode(body)


def test_a_default_that_json_has_no_form_for_stays_where_it_is() -> None:
    marker = object()

    def one(text: str, mark: Any = marker, *, other: Any = marker) -> str: ...  # type: ignore[empty-body]

    codec = codec_of(Function("b", "one", one, None))
    body = codec.encode(("a",), {})
    assert (body, codec.decode(body)) == (b'{"text":"a"}', (("a",), {}))


class Refused(Exception):
    def __init__(self, who: str, why: int) -> None:
        super().__init__(f"{who} may not")
        self.who, self.why = who, why
        self.handle = object()


class Narrower(Refused): ...


@pytest.mark.parametrize(
    ("error", "kind", "args"),
    [
        (Refused("a", 3), Refused, ("a may not",)),
        (Narrower("a", 3), Refused, ("a may not",)),
        (KeyError("x", 2), KeyError, ("x", 2)),
        (KeyError(b"x"), KeyError, ("b'x'",)),
    ],
)
def test_declared_exceptions_arrive_with_what_travels(error: Exception, kind: type, args: tuple[Any, ...]) -> None:
    def one() -> None: ...

    codec = codec_of(Function("b", "one", one, None, raises=(Refused, KeyError)))
    found = codec.encode_exception(error)
    assert found is not None
    came = codec.decode_exception(msgspec.json.decode(msgspec.json.encode(found)))
    assert type(came) is kind
    assert came.args == args
    if isinstance(error, Refused) and isinstance(came, Refused):
        assert (came.who, came.why, hasattr(came, "handle")) == ("a", 3, False)
    assert codec.encode_exception(ValueError("no")) is None


def test_a_hint_that_json_has_no_form_for_is_said_once_it_is_needed() -> None:
    def one(what: Callable[[], int]) -> int: ...  # type: ignore[empty-body]

    def two(what: Missing) -> int: ...  # type: ignore[name-defined,empty-body]  # noqa: F821

    for call in (one, two):
        function = Function("b", "one", call, None)
        for _ in range(2):
            with pytest.raises(NotTyped, match="cannot be called over a boundary"):
                codec_of(function)
