"""Breaks that are planted to see each check fail: a gate that was never seen to fail may not pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from spinyard.spinout.contract.checks import CHECKS, Direction
from spinyard.spinout.contract.compare import compare
from spinyard.spinout.contract.finding import Severity

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Plant:
    """`is_symmetric`: the way back is the same break, as of a type that became another one."""

    check: str
    old: Json
    new: Json
    is_symmetric: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """What a check did with its plant: found it, and said nothing of the unchanged contract and of the way back."""

    check: str
    is_found: bool
    is_silent_unchanged: bool
    is_silent_backwards: bool

    @property
    def can_be_trusted(self) -> bool:
        return self.is_found and self.is_silent_unchanged and self.is_silent_backwards


@cache
def shown_to_fail() -> tuple[Shown, ...]:
    """One for each check that can break a contract; a check without a plant is one that was not found."""
    plants = {plant.check: plant for plant in planted()}
    return tuple(
        _show(plants[check]) if check in plants else Shown(check, False, False, False)
        for check, severity in CHECKS.items()
        if severity is Severity.BREAKING
    )


def _show(plant: Plant) -> Shown:
    found = compare(plant.old, plant.new)
    back = {one.id for one in compare(plant.new, plant.old).findings}
    same = (*compare(plant.old, plant.old).findings, *compare(plant.new, plant.new).findings)
    return Shown(
        plant.check,
        is_found=not found.is_compatible and plant.check in {one.id for one in found.breaking},
        is_silent_unchanged=not same,
        is_silent_backwards=(plant.check in back) is plant.is_symmetric,
    )


def planted() -> Iterator[Plant]:
    for narrower, wider, wide, narrow in _SCHEMAS:
        yield Plant(f"request-{narrower}", asked(wide), asked(narrow))
        yield Plant(f"response-{wider}", answered(narrow), answered(wide))
    for name, one, other in _CHANGED:
        yield Plant(f"{Direction.REQUEST}-{name}", asked(one), asked(other), is_symmetric=True)
        yield Plant(f"{Direction.RESPONSE}-{name}", answered(one), answered(other), is_symmetric=True)
    for check, old, new in _OPERATIONS:
        yield Plant(check, document(old), document(new), is_symmetric=check in _BOTH_WAYS)
    yield Plant("path-removed", document({}), {**document({}), "paths": {}})
    yield Plant("method-removed", {**document({}), "paths": _BOTH_METHODS}, document({}))


def document(operation: Json) -> Json:
    """A contract with one operation."""
    put = {"responses": {"200": {"description": "done"}}, **operation}
    return {
        "openapi": "3.1.0",
        "info": {"title": "planted", "version": "1"},
        "paths": {"/photos": {"put": put}},
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-key"},
                "login": {"type": "openIdConnect", "openIdConnectUrl": "https://login.example/"},
            }
        },
    }


def asked(schema: object) -> Json:
    return document({"requestBody": _carrying(schema)})


def answered(schema: object) -> Json:
    return document({"responses": {"200": {"description": "done", **_carrying(schema)}}})


def _carrying(schema: object) -> Json:
    return {"content": {"application/json": {"schema": schema}}}


def _a(**properties: object) -> Json:
    """An object that may have these."""
    return {"type": "object", "properties": properties}


def _parameter(**more: object) -> Json:
    return {"parameters": [{"name": "size", "in": "query", "schema": {"type": "integer"}, **more}]}


def _header(**more: object) -> Json:
    answer = {"description": "done", "headers": {"ETag": {"schema": {"type": "string"}, **more}}}
    return {"responses": {"200": answer}}


def _statuses(*statuses: str) -> Json:
    return {"responses": {status: {"description": "done"} for status in statuses}}


_TEXT: Final[Json] = {"type": "string"}
_WHOLE: Final[Json] = {"type": "integer"}

# What a narrowing and a widening are called; a wide schema and a narrow one.
_SCHEMAS: Final[tuple[tuple[str, str, object, object], ...]] = (
    ("minimum-tightened", "minimum-loosened", {"type": "integer", "minimum": 1}, {"type": "integer", "minimum": 2}),
    ("maximum-tightened", "maximum-loosened", {"type": "number"}, {"type": "number", "exclusiveMaximum": 9}),
    ("min-length-tightened", "min-length-loosened", _TEXT, {"type": "string", "minLength": 1}),
    (
        "max-length-tightened",
        "max-length-loosened",
        {"type": "string", "maxLength": 9},
        {"type": "string", "maxLength": 8},
    ),
    ("min-items-tightened", "min-items-loosened", {"type": "array"}, {"type": "array", "minItems": 1}),
    ("max-items-tightened", "max-items-loosened", {"type": "array", "maxItems": 9}, {"type": "array", "maxItems": 8}),
    ("min-properties-tightened", "min-properties-loosened", _a(), {**_a(), "minProperties": 1}),
    ("max-properties-tightened", "max-properties-loosened", {**_a(), "maxProperties": 9}, {**_a(), "maxProperties": 8}),
    ("type-narrowed", "type-widened", _a(size={"type": "number"}), _a(size=_WHOLE)),
    ("format-added", "format-removed", _a(at=_TEXT), _a(at={"type": "string", "format": "date-time"})),
    ("pattern-added", "pattern-removed", _a(name=_TEXT), _a(name={"type": "string", "pattern": "^a"})),
    (
        "multiple-of-tightened",
        "multiple-of-loosened",
        {"type": "number", "multipleOf": 5},
        {"type": "number", "multipleOf": 10},
    ),
    ("unique-items-added", "unique-items-removed", {"type": "array"}, {"type": "array", "uniqueItems": True}),
    ("enum-added", "enum-removed", _a(kind=_TEXT), _a(kind={"type": "string", "enum": ["jpeg", "png"]})),
    ("enum-value-removed", "enum-value-added", _a(kind={"enum": ["jpeg", "png"]}), _a(kind={"enum": ["jpeg"]})),
    ("became-not-nullable", "became-nullable", _a(name={"type": ["string", "null"]}), _a(name=_TEXT)),
    ("property-became-required", "property-became-optional", _a(name=_TEXT), {**_a(name=_TEXT), "required": ["name"]}),
    (
        *("additional-properties-closed", "additional-properties-opened"),
        *(_a(name=_TEXT), {**_a(name=_TEXT), "additionalProperties": False}),
    ),
    ("items-limited", "items-unlimited", {"type": "array"}, {"type": "array", "items": _TEXT}),
    ("alternative-removed", "alternative-added", {"oneOf": [_TEXT, _WHOLE]}, {"oneOf": [_TEXT]}),
)

_CHANGED: Final[tuple[tuple[str, object, object], ...]] = (
    ("type-changed", _a(size=_WHOLE), _a(size=_TEXT)),
    ("format-changed", {"type": "string", "format": "date"}, {"type": "string", "format": "uuid"}),
    ("pattern-changed", {"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^b"}),
    ("multiple-of-changed", {"type": "number", "multipleOf": 2}, {"type": "number", "multipleOf": 3}),
    ("keyword-changed", {"not": {"type": "string"}}, {"not": {"type": "integer"}}),
)

_OPERATIONS: Final[tuple[tuple[str, Json, Json], ...]] = (
    (
        "request-required-property-added",
        {"requestBody": _carrying(_a())},
        {"requestBody": _carrying({**_a(name=_TEXT), "required": ["name"]})},
    ),
    (
        "request-property-refused",
        {"requestBody": _carrying({**_a(name=_TEXT), "additionalProperties": False})},
        {"requestBody": _carrying({**_a(), "additionalProperties": False})},
    ),
    (
        "response-required-property-removed",
        {"responses": {"200": _carrying({**_a(name=_TEXT), "required": ["name"]})}},
        {"responses": {"200": _carrying(_a())}},
    ),
    (
        "response-property-removed",
        {"responses": {"200": _carrying(_a(name=_TEXT))}},
        {"responses": {"200": _carrying(_a())}},
    ),
    (
        "response-property-added-to-closed-object",
        {"responses": {"200": _carrying({**_a(), "additionalProperties": False})}},
        {"responses": {"200": _carrying({**_a(name=_TEXT), "additionalProperties": False})}},
    ),
    ("request-required-parameter-added", {}, _parameter(required=True)),
    ("request-parameter-became-required", _parameter(), _parameter(required=True)),
    ("request-parameter-style-changed", _parameter(), _parameter(style="pipeDelimited")),
    ("request-required-body-added", {}, {"requestBody": {"required": True, **_carrying(_a())}}),
    ("request-body-removed", {"requestBody": _carrying(_a())}, {}),
    (
        "request-body-became-required",
        {"requestBody": _carrying(_a())},
        {"requestBody": {"required": True, **_carrying(_a())}},
    ),
    (
        "request-media-type-removed",
        {"requestBody": {"content": {"image/png": {}, "image/jpeg": {}}}},
        {"requestBody": {"content": {"image/png": {}}}},
    ),
    ("response-status-removed", _statuses("200", "202"), _statuses("200")),
    ("response-error-status-removed", _statuses("200", "404"), _statuses("200")),
    (
        "response-media-type-removed",
        {"responses": {"200": {"content": {"image/png": {}, "image/jpeg": {}}}}},
        {"responses": {"200": {"content": {"image/png": {}}}}},
    ),
    ("response-header-removed", _header(), _statuses("200")),
    ("response-header-became-optional", _header(required=True), _header()),
    ("security-added", {}, {"security": [{"key": []}]}),
    ("security-tightened", {"security": [{"login": ["read"]}]}, {"security": [{"login": ["read", "write"]}]}),
)

_PLAIN: Final[Json] = {"responses": {"200": {"description": "done"}}}
_BOTH_METHODS: Final[Json] = {"/photos": {"put": _PLAIN, "get": _PLAIN}}
_BOTH_WAYS: Final = frozenset({"request-parameter-style-changed"})
