"""A contract may come from anybody: what is wrong with it is told once, with where, and nothing hangs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from spinyard.spinout.contract import InvalidContract, compare, restrict
from spinyard.spinout.contract.planted import asked, document


def bomb() -> str:
    """Ten times ten times ..., by aliases."""
    letters = "abcdefghijkl"
    lines = [f"{one}: &{one} [{', '.join([f'*{before}'] * 10)}]" for before, one in pairwise(letters)]
    return "openapi: 3.1.0\na: &a [x, x]\n" + "\n".join(lines)


def chain(make: Any, length: int = 60) -> dict[str, Any]:
    """S0 is made of S1, twice, and so on."""
    made = {f"S{n}": make({"$ref": f"#/components/schemas/S{n + 1}"}) for n in range(length)}
    found = asked({"$ref": "#/components/schemas/S0"})
    return {**found, "components": {"schemas": {**made, f"S{length}": {}}}}


def path(name: str, operation: object) -> dict[str, Any]:
    return {"openapi": "3.1.0", "paths": {name: {"get": operation}}}


HERE = "/paths/~1photos/put/requestBody/content/application~1json/schema"
REFUSED: list[Any] = [
    pytest.param(b"", "", "an OpenAPI document is an object, this is null", id="empty"),
    pytest.param(b"\xff\xfe", "", "it is not UTF-8 text (byte 0)", id="bytes"),
    pytest.param(b"x" * (9 << 20), "", "it is larger than 8 MiB", id="large"),
    pytest.param(b"[" * 1_000_000, "", "it is nested deeper than 100", id="brackets"),
    pytest.param(b"a: " + b"{a: " * 50_000, "", "it is nested deeper than 100", id="braces"),
    pytest.param(b'{"a":' * 3_000 + b"1" + b"}" * 3_000, "", "it is nested deeper than 100", id="deep JSON"),
    pytest.param(bomb(), None, "it has more than 300,000 values", id="bomb of aliases"),
    pytest.param("openapi: 3.1.0\na: &a [*a]", None, "it is nested deeper than 100", id="alias of itself"),
    pytest.param(
        "openapi: 3.1.0\nb: {<<: {a: 1}}", "/b", "YAML's merge key << is not read: write the fields out", id="merge"
    ),
    pytest.param('{"openapi": "3.1.0", "x": NaN}', "/x", "nan is not a number that JSON has", id="NaN"),
    pytest.param('{"openapi": "3.1.0", "x": 1e999}', "/x", "inf is not a number that JSON has", id="infinite"),
    pytest.param('{"openapi": 1, "openapi": 2}', "", "the key openapi stands twice in one object", id="twice in JSON"),
    pytest.param("a: 1\na: 2", "", "the key a stands twice in the object at line 1", id="twice in YAML"),
    pytest.param("a: [1", "", "it is not YAML: line 2, column 1", id="half a list"),
    pytest.param("a: !!python/name:os.system", "", "it is not YAML: line 1, column 4", id="python in YAML"),
    pytest.param({"swagger": "2.0"}, "/swagger", "this is OpenAPI 2.0", id="2.0"),
    pytest.param({"openapi": "3.2.0"}, "/openapi", "version 3.2.0 is not read, only 3.0 and 3.1", id="3.2"),
    pytest.param({"paths": {}}, "", "it does not say `openapi: 3.x`, so it is no OpenAPI document", id="no version"),
    pytest.param({"openapi": "3.1.0", "paths": []}, "/paths", "paths must be an object, this is a list", id="paths"),
    pytest.param(path("photos", {}), "/paths/photos", "a path begins with /, this is photos", id="path"),
    pytest.param(
        {"openapi": "3.1.0", "paths": {"/{a}": {}, "/{b}": {}}},
        "/paths/~1{b}",
        "/{b} and /{a} are the same path",
        id="same path",
    ),
    pytest.param(path("/", []), "/paths/~1/get", "there must be an object, this is a list", id="operation"),
    pytest.param(
        path("/", {"parameters": [{"in": "query"}]}),
        "/paths/~1/get/parameters/0",
        "a parameter needs a name",
        id="parameter",
    ),
    pytest.param(
        path("/", {"parameters": [{"name": "a", "in": "path"}]}),
        "/paths/~1/get/parameters/0",
        "the path / has no {a}",
        id="path parameter",
    ),
    pytest.param(
        path("/", {"responses": {"2000": {}}}),
        "/paths/~1/get/responses/2000",
        "a status is like 200, 4XX or default",
        id="status",
    ),
    pytest.param(
        path("/", {"security": [{"nobody": []}]}),
        "/paths/~1/get/security/0",
        "there is no security scheme nobody",
        id="security",
    ),
    pytest.param(asked(5), HERE, "a schema is an object, this is the number 5", id="schema"),
    pytest.param(asked({"type": "strin"}), f"{HERE}/type", "there is no type strin", id="type"),
    pytest.param(
        asked({"maximum": "5"}), f"{HERE}/maximum", "there must be a number, this is the text 5", id="maximum"
    ),
    pytest.param(
        asked({"maximum": True}), f"{HERE}/maximum", "there must be a number, this is true", id="maximum true"
    ),
    pytest.param(
        asked({"maxLength": -1}), f"{HERE}/maxLength", "maxLength is a whole number from 0, not -1", id="length"
    ),
    pytest.param(asked({"oneOf": []}), HERE, "oneOf has no alternative", id="oneOf"),
    pytest.param(
        asked({"required": [1]}), f"{HERE}/required", "required lists names, this is the number 1", id="required"
    ),
    pytest.param(
        asked({"properties": {"a": {"enum": 1}}}), f"{HERE}/properties/a/enum", "there must be a list", id="inside"
    ),
    pytest.param(
        asked({"$ref": "b.yaml#/x"}), HERE, "$ref b.yaml#/x points outside of this document", id="ref outside"
    ),
    pytest.param(asked({"$ref": "#/nowhere"}), HERE, "$ref #/nowhere points at nothing", id="ref to nothing"),
    pytest.param(
        {**asked({"$ref": "#/a"}), "a": {"$ref": "#/a"}}, HERE, "its $ref leads to another $ref", id="ref to itself"
    ),
    pytest.param(
        chain(lambda ref: {"not": [ref, ref]}), HERE, "its schemas unfold into more than 200,000", id="doubling"
    ),
    pytest.param(
        chain(lambda ref: {"allOf": [ref], "anyOf": [{"type": "string"}, {"type": "integer"}]}),
        HERE,
        "its oneOf and anyOf give",
        id="alternatives multiplied",
    ),
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("source", "pointer", "words"), REFUSED)
def test_a_document_that_is_none_is_refused_with_where(source: Any, pointer: str | None, words: str) -> None:
    with pytest.raises(InvalidContract) as caught:
        compare(document({}), source)
    error = caught.value
    assert error.code == "invalid_contract"
    assert error.message.startswith("the new contract is not valid")
    assert words in error.problem
    assert pointer is None or error.pointer == pointer
    assert len(error.message) < 700
    assert error.next_step


def test_it_says_which_of_the_two_it_is() -> None:
    with pytest.raises(InvalidContract, match=r"^the old contract is not valid at /openapi: version 9"):
        compare({"openapi": "9"}, document({}))
    with pytest.raises(InvalidContract, match=r"^the contract is not valid"):
        restrict({"openapi": "9"}, [])


def test_what_is_wrong_with_a_document_does_not_depend_on_the_other() -> None:
    broken = {**asked({"type": "x"}), "paths": {"/gone": asked({"type": "x"})["paths"]["/photos"]}}  # type: ignore[index,call-overload]
    with pytest.raises(InvalidContract, match="there is no type x"):
        compare(document({}), broken)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda ref: {"properties": {"a": ref, "b": ref}}, id="properties"),
        pytest.param(lambda ref: {"allOf": [ref, ref]}, id="allOf"),
        pytest.param(lambda ref: {"items": ref, "additionalProperties": ref}, id="items"),
    ],
)
def test_schemas_that_are_used_twice_at_each_level_are_compared_once(make: Any) -> None:
    assert compare(chain(make), chain(make)).findings == ()


def test_a_message_of_a_stranger_does_not_write_on_the_terminal() -> None:
    with pytest.raises(InvalidContract) as caught:
        compare(document({}), asked({"type": "\x1b[2J\nspinyard: all is well"}))
    assert caught.value.message.isprintable()
