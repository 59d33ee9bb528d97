"""Of a big program's OpenAPI only the routes that leave, and what they lead to."""

from __future__ import annotations

from typing import Any

import pytest

from spinyard.spinout.contract import InvalidContract, compare, restrict


def ref(section: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{section}/{name}"}


BIG: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "gallery", "version": "7", "contact": {"name": "x"}},
    "servers": [{"url": "https://gallery.example"}],
    "tags": [{"name": "photos"}],
    "security": [{"key": []}],
    "paths": {
        "/users": {"get": {"responses": {"200": ref("responses", "Users")}}},
        "/photos/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "get": {"responses": {"200": {"content": {"application/json": {"schema": ref("schemas", "Photo")}}}}},
            "delete": {"responses": {"204": {"description": "gone"}}, "security": [{"admin": []}]},
        },
    },
    "components": {
        "schemas": {
            "Photo": {"properties": {"tags": {"items": ref("schemas", "Tag")}, "self": ref("schemas", "Photo")}},
            "Tag": {"type": "string"},
            "User": {"type": "object"},
        },
        "responses": {"Users": {"content": {"application/json": {"schema": ref("schemas", "User")}}}},
        "securitySchemes": {
            "key": {"type": "apiKey", "in": "header", "name": "key"},
            "admin": {"type": "http", "scheme": "basic"},
        },
    },
}


def test_a_route_takes_what_it_leads_to_and_nothing_else() -> None:
    found: Any = restrict(BIG, ["GET /photos/{photo}"])
    assert list(found) == ["openapi", "info", "security", "paths", "components"]
    assert list(found["paths"]) == ["/photos/{id}"]
    assert list(found["paths"]["/photos/{id}"]) == ["parameters", "get"]
    assert {section: list(names) for section, names in found["components"].items()} == {
        "schemas": ["Photo", "Tag"],
        "securitySchemes": ["key"],
    }


def test_a_path_alone_is_all_of_its_methods_and_no_route_is_everything() -> None:
    both: Any = restrict(BIG, ["/photos/{id}"])
    assert list(both["paths"]["/photos/{id}"]) == ["parameters", "get", "delete"]
    assert list(both["components"]["securitySchemes"]) == ["admin", "key"]
    whole: Any = restrict(BIG, [])
    assert list(whole["paths"]) == ["/photos/{id}", "/users"]
    assert list(whole["components"]["responses"]) == ["Users"]


def test_what_is_kept_means_what_it_meant() -> None:
    part = restrict(BIG, ["GET /photos/{id}"])
    assert {one.id for one in compare(part, BIG).findings} == {"path-added", "method-added", "not-compared"}
    assert restrict(part, []) == part


def test_a_route_that_is_not_there_is_an_error_with_the_nearest() -> None:
    with pytest.raises(InvalidContract) as caught:
        restrict(BIG, ["GET /photo/{id}"])
    assert "there is no operation GET /photo/{id}" in caught.value.message
    assert caught.value.next_step == "did you mean GET /photos/{id}?"
    assert restrict(BIG, ["GET /photo/{id}"], may_lack=True)["paths"] == {}
