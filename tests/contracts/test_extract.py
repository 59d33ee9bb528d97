"""The contract of functions: what their hints say, no more and no less."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest

from spinyard.spinout.contract import CannotExtract, Leaving, compare, contract_of, is_boundary, leaving
from spinyard.spinout.contract.extract import Function


class Kind(enum.Enum):
    SMALL = "small"
    BIG = "big"


class Box(TypedDict):
    width: int
    height: int


@dataclass
class Picture:
    data: bytes
    made_at: datetime
    source: Picture | None = None


class Order(msgspec.Struct, tag=True):
    boxes: list[Box]
    kind: Kind = Kind.SMALL


async def render(photo_id: str, order: Order, *sizes: int, mode: Literal["fit", "crop"] = "fit") -> Picture:
    """Draws it small.

    And more."""
    raise NotImplementedError


class Store:
    def put(self, name: str, tags: dict[str, float]) -> None: ...


def of(*functions: Function) -> dict[str, Any]:
    return contract_of([Leaving("thumbnails", {one.__name__: one for one in functions})])


def body_of(document: dict[str, Any], path: str = "/thumbnails/render") -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return found


def test_a_function_is_a_post_with_its_arguments_as_an_object() -> None:
    document = of(render)
    operation = document["paths"]["/thumbnails/render"]["post"]
    assert (operation["operationId"], operation["summary"]) == ("thumbnails.render", "Draws it small.")
    assert body_of(document) == {
        "type": "object",
        "properties": {
            "photo_id": {"type": "string"},
            "order": {"$ref": "#/components/schemas/Order"},
            "sizes": {"type": "array", "items": {"type": "integer"}},
            "mode": {"enum": ["crop", "fit"], "default": "fit"},
        },
        "additionalProperties": False,
        "required": ["photo_id", "order"],
    }
    answers = operation["responses"]
    assert answers["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Picture"}
    assert list(answers["default"]["content"]) == ["application/problem+json"]


def test_types_are_what_goes_over_the_wire() -> None:
    schemas = of(render)["components"]["schemas"]
    picture = schemas["Picture"]["properties"]
    assert picture["data"] == {"type": "string", "contentEncoding": "base64"}
    assert picture["made_at"] == {"type": "string", "format": "date-time"}
    assert picture["source"]["anyOf"] == [{"$ref": "#/components/schemas/Picture"}, {"type": "null"}]
    assert schemas["Order"]["properties"]["type"] == {"enum": ["Order"]}
    assert sorted(schemas["Kind"]["enum"]) == ["big", "small"]
    assert list(schemas) == sorted(schemas)


def test_a_method_leaves_its_object_behind_and_nothing_is_null() -> None:
    document = contract_of([Leaving("store", {"put": Store.put}, frozenset({"put"}))])
    assert list(body_of(document, "/store/put")["properties"]) == ["name", "tags"]
    answer = document["paths"]["/store/put"]["post"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"] == {"type": "null"}


def test_the_order_of_the_program_does_not_show() -> None:
    def early(a: int) -> int: ...

    def late(a: int) -> int: ...

    one = contract_of([Leaving("b", {"late": late, "early": early}), Leaving("a", {"late": late})])
    other = contract_of([Leaving("a", {"late": late}), Leaving("b", {"early": early, "late": late})])
    assert repr(one) == repr(other)
    assert list(one["paths"]) == ["/a/late", "/b/early", "/b/late"]  # type: ignore[call-overload]


def test_an_extracted_contract_is_one_and_differs_in_nothing_from_itself() -> None:
    assert compare(of(render), of(render)).findings == ()


def changed(**hints: Any) -> dict[str, Any]:
    def render(a, b=1):  # type: ignore[no-untyped-def]
        ...

    render.__annotations__ = {"a": int, "b": int, "return": str, **hints}
    return of(render)


CHANGES: list[Any] = [
    pytest.param({"a": float}, {"a": int}, {"request-type-narrowed"}, id="an argument takes less"),
    pytest.param({"a": int | None}, {}, {"request-became-not-nullable"}, id="None is not taken"),
    pytest.param({"a": datetime}, {"a": str}, set(), id="any text where a time was"),
    pytest.param({"a": str}, {"a": datetime}, {"request-format-added"}, id="a time where any text was"),
    pytest.param({}, {"return": int}, {"response-type-changed"}, id="another result"),
    pytest.param({}, {"return": str | None}, {"response-became-nullable"}, id="maybe no result"),
    pytest.param({"a": Literal["x", "y"]}, {"a": Literal["x"]}, {"request-enum-value-removed"}, id="a choice less"),
    pytest.param(
        {"a": Annotated[int, msgspec.Meta(le=9)]},
        {"a": Annotated[int, msgspec.Meta(le=5)]},
        {"request-maximum-tightened"},
        id="a tighter bound",
    ),
]


@pytest.mark.parametrize(("old", "new", "breaking"), CHANGES)
def test_what_changes_in_a_signature_is_found_in_the_contract(
    old: dict[str, Any], new: dict[str, Any], breaking: set[str]
) -> None:
    assert {one.id for one in compare(changed(**old), changed(**new)).breaking} == breaking


def test_an_argument_that_goes_is_refused_and_one_that_comes_must_have_a_default() -> None:
    def old(a: int) -> int: ...

    def more(a: int, b: int) -> int: ...

    def optional(a: int, b: int = 0) -> int: ...

    for function in (old, more, optional):
        function.__name__ = "render"
    assert {one.id for one in compare(of(more), of(old)).breaking} == {"request-property-refused"}
    assert {one.id for one in compare(of(old), of(more)).breaking} == {"request-required-property-added"}
    assert compare(of(old), of(optional)).is_compatible


def test_a_default_that_is_no_data_leaves_the_argument_optional() -> None:
    def render(at: Picture = Picture(b"", datetime(2026, 1, 1)), other: Any = object()) -> int: ...  # noqa: B008

    body = body_of(of(render))
    assert "required" not in body
    assert "default" not in body["properties"]["other"]


def unhinted(a) -> int: ...  # type: ignore[no-untyped-def,empty-body]
def resultless(a: int): ...  # type: ignore[no-untyped-def]
def dangling(a: Nowhere) -> int: ...  # type: ignore[name-defined,empty-body]  # noqa: F821
def odd(a: complex) -> int: ...  # type: ignore[empty-body]
def stream(a: int) -> Iterator[int]: ...  # type: ignore[empty-body]


REFUSED: list[Any] = [
    pytest.param(unhinted, "thumbnails: unhinted: the argument a has no type hint", id="no hint"),
    pytest.param(resultless, "thumbnails: resultless: what it returns has no type hint", id="no result"),
    pytest.param(dangling, "thumbnails: dangling: its type hints cannot be read: name 'Nowhere'", id="unknown name"),
    pytest.param(odd, "thumbnails: odd: the argument a: type <class 'complex'> is not supported", id="no JSON"),
    pytest.param(stream, "thumbnails: stream: it answers bit by bit", id="stream"),
]


@pytest.mark.parametrize(("function", "words"), REFUSED)
def test_what_has_no_contract_is_refused_by_name(function: Function, words: str) -> None:
    with pytest.raises(CannotExtract) as caught:
        of(function)
    assert caught.value.message.startswith(words)
    assert caught.value.next_step


def test_an_awaitable_result_is_what_comes_of_it() -> None:
    def render() -> Awaitable[int]: ...

    content = of(render)["paths"]["/thumbnails/render"]["post"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"type": "integer"}


def test_a_boundary_without_functions_and_a_name_that_is_no_path_are_refused() -> None:
    with pytest.raises(CannotExtract, match="no function"):
        contract_of([Leaving("thumbnails", {})])
    with pytest.raises(CannotExtract, match="cannot stand in a path"):
        contract_of([Leaving("../thumbnails", {"render": render})])


def test_the_mark_of_the_sdk_is_read() -> None:
    from spinyard_sdk.boundary import boundary

    @boundary("thumbnails", key=lambda photo_id: photo_id)
    def render(photo_id: str) -> bytes: ...

    @boundary("store")
    class Shelf:
        def put(self, name: str) -> None: ...

        @staticmethod
        def count(name: str) -> int: ...

    assert is_boundary(render)
    assert is_boundary(Shelf)
    assert not is_boundary(Store)
    document = contract_of([leaving(render), leaving(Shelf)])
    assert {path: list(body_of(document, path)["properties"]) for path in document["paths"]} == {  # type: ignore[attr-defined]
        "/store/count": ["name"],
        "/store/put": ["name"],
        "/thumbnails/render": ["photo_id"],
    }


def test_a_mark_that_is_not_the_sdks_is_refused() -> None:
    class Odd:
        __spinyard_boundary__ = 5

    with pytest.raises(CannotExtract, match="not that of @boundary"):
        leaving(Odd)
