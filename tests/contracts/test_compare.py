"""What callers can and cannot tell: the same contract written in another way, and changes that only look alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spinyard.spinout.contract import CHECKS, ContractDiff, Severity, compare
from spinyard.spinout.contract.planted import answered, asked, document
from spinyard.spinout.contract.report import FINDINGS_MAX

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}


def ids(diff: ContractDiff) -> set[str]:
    return {one.id for one in diff.findings}


def in_30(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "openapi": "3.0.3"}


def with_schemas(found: dict[str, Any], **schemas: object) -> dict[str, Any]:
    return {**found, "components": {**found["components"], "schemas": schemas}}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


SAME: list[Any] = [
    pytest.param(
        in_30(asked({"type": "string", "nullable": True})), asked({"type": ["string", "null"]}), id="nullable"
    ),
    pytest.param(
        asked({"type": ["string", "null"]}),
        asked({"anyOf": [TEXT, {"type": "null"}]}),
        id="a union with null is nullable",
    ),
    pytest.param(
        with_schemas(asked({"oneOf": [{"type": "null"}, ref("Kind")]}), Kind={"enum": ["a", "b"]}),
        asked({"enum": ["b", "a", None]}),
        id="an enum or null",
    ),
    pytest.param(
        in_30({**asked({"type": "integer", "minimum": 1, "exclusiveMinimum": True})}),
        asked({"type": "integer", "exclusiveMinimum": 1}),
        id="exclusive bounds of both dialects",
    ),
    pytest.param(
        asked({"type": "integer", "exclusiveMinimum": 0}),
        asked({"type": "integer", "minimum": 1}),
        id="above 0 is from 1",
    ),
    pytest.param(
        in_30(asked({"type": "string", "format": "byte"})),
        asked({"type": "string", "contentEncoding": "base64"}),
        id="base64",
    ),
    pytest.param(
        asked({"type": "object", "properties": {"a": TEXT, "b": WHOLE}, "required": ["a"]}),
        with_schemas(
            asked({"allOf": [ref("Base"), {"properties": {"b": WHOLE}}]}),
            Base={"type": "object", "properties": {"a": TEXT}, "required": ["a"]},
        ),
        id="allOf is merged",
    ),
    pytest.param(asked(TEXT), with_schemas(asked(ref("Name")), Name=TEXT), id="a schema got a name"),
    pytest.param(asked({"const": "a"}), asked({"enum": ["a"]}), id="const is an enum of one"),
    pytest.param(asked({"type": "string", "minLength": 0}), asked(TEXT), id="at least 0 characters"),
    pytest.param(asked({"enum": [1]}), asked({"enum": [1.0]}), id="1 and 1.0"),
    pytest.param(asked({"oneOf": [TEXT, WHOLE]}), asked({"oneOf": [WHOLE, TEXT]}), id="the order of alternatives"),
    pytest.param(asked(True), asked({}), id="true and {}"),
    pytest.param(
        document({"security": [{"key": []}, {"login": ["a"]}]}),
        document({"security": [{"login": ["a"]}, {"key": []}]}),
        id="the order of ways to be let in",
    ),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_ways_to_write_the_same_differ_in_nothing(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert compare(one, other).findings == ()
    assert compare(other, one).findings == ()


def test_bytes_of_yaml_and_of_json_and_a_mapping_are_the_same_contract() -> None:
    found = asked({"type": "object", "properties": {"name": TEXT}})
    text = json.dumps(found).encode()
    assert compare(text, found).findings == ()
    yaml_text = b"openapi: 3.1.0\npaths:\n  /a:\n    get:\n      responses: {200: {description: no}}\n"
    as_mapping = {"openapi": "3.1.0", "paths": {"/a": {"get": {"responses": {"200": {"description": "no"}}}}}}
    diff = compare(yaml_text, as_mapping)
    assert diff.findings == ()
    assert diff.old_digest == diff.new_digest


def test_a_word_that_yaml_11_would_read_as_false_is_a_word() -> None:
    head = b"openapi: 3.1.0\npaths: {/a: {get: {responses: {200: {content: {a/b: {schema: {enum: ["
    diff = compare(head + b"no, yes]}}}}}}}}", head + b"no, yes, on]}}}}}}}}")
    assert [(one.id, one.was, one.now) for one in diff.findings] == [
        ("response-enum-value-added", '"no", "yes"', '"no", "yes", "on"')
    ]


def test_a_parameter_in_a_path_may_be_renamed() -> None:
    def photo(name: str, schema: object) -> dict[str, Any]:
        operation = {"parameters": [{"name": name, "in": "path", "required": True, "schema": schema}], "responses": {}}
        return {"openapi": "3.1.0", "paths": {f"/photos/{{{name}}}/raw": {"get": operation}}}

    assert compare(photo("id", WHOLE), photo("photoId", WHOLE)).findings == ()
    diff = compare(photo("id", TEXT), photo("photoId", WHOLE))
    assert ids(diff) == {"request-type-changed"}
    assert diff.findings[0].place.field == "path photoId"


def test_a_finding_says_where_in_words_and_as_a_pointer() -> None:
    def photos(**size: object) -> dict[str, Any]:
        photo = {"type": "object", "properties": {"size": {"type": "integer", **size}}}
        body = {"type": "object", "properties": {"photos": {"type": "array", "items": ref("Photo")}}}
        return with_schemas(asked(body), Photo=photo)

    (found,) = compare(photos(maximum=9), photos(maximum=5)).findings
    assert (found.id, found.severity) == ("request-maximum-tightened", Severity.BREAKING)
    assert (found.was, found.now) == ("9", "5")
    assert found.place.text() == "PUT /photos body.photos[].size"
    assert found.place.pointer == (
        "/paths/~1photos/put/requestBody/content/application~1json/schema/properties/photos/items/properties/size/maximum"
    )
    assert found.as_data()["where"] == {
        "path": "/photos",
        "method": "PUT",
        "status": "",
        "pointer": found.place.pointer,
        "field": "body.photos[].size",
    }


def test_a_recursive_schema_is_compared_to_its_end() -> None:
    def tree(leaf: object) -> dict[str, Any]:
        node = {"properties": {"left": ref("Tree"), "right": ref("Tree"), "leaf": leaf}}
        return with_schemas(answered(ref("Tree")), Tree=node)

    assert compare(tree(WHOLE), tree(WHOLE)).findings == ()
    assert ids(compare(tree(WHOLE), tree(TEXT))) == {"response-type-changed"}


def test_recursion_through_allof_and_oneof_ends() -> None:
    def odd(leaf: object) -> dict[str, Any]:
        return with_schemas(
            asked(ref("A")),
            A={"allOf": [ref("A"), {"properties": {"b": ref("B")}}]},
            B={"oneOf": [ref("A"), ref("B"), leaf]},
        )

    assert compare(odd(TEXT), odd(TEXT)).findings == ()
    assert ids(compare(odd(TEXT), odd(WHOLE))) == {"request-alternative-removed", "request-alternative-added"}


def test_the_parts_of_a_union_may_be_made_of_the_union() -> None:
    def pets(lives: object) -> dict[str, Any]:
        return with_schemas(
            asked(ref("Pet")),
            Pet={"type": "object", "required": ["kind"], "oneOf": [ref("Cat"), ref("Dog")]},
            Cat={"allOf": [ref("Pet"), {"properties": {"kind": {"const": "cat"}, "lives": lives}}]},
            Dog={"allOf": [ref("Pet"), {"properties": {"kind": {"const": "dog"}}}]},
        )

    assert compare(pets(WHOLE), pets(WHOLE)).findings == ()
    (found,) = compare(pets(WHOLE), pets(TEXT)).findings
    assert (found.id, found.place.field) == ("request-type-changed", "body<Cat>.lives")


CAT = {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": WHOLE}, "required": ["kind"]}
DOG = {"type": "object", "properties": {"kind": {"const": "dog"}}, "required": ["kind"]}
WEAK_CAT = {**CAT, "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer", "maximum": 9}}}


def test_alternatives_find_each_other_by_their_tag_and_are_compared_inside() -> None:
    diff = compare(asked({"oneOf": [CAT, DOG]}), asked({"oneOf": [DOG, WEAK_CAT]}))
    assert ids(diff) == {"request-maximum-tightened"}
    assert diff.findings[0].place.field == "body<kind=cat>.lives"


def test_an_alternative_more_breaks_answers_and_one_less_breaks_requests() -> None:
    both, one = {"oneOf": [CAT, DOG]}, {"oneOf": [CAT]}
    assert compare(asked(one), asked(both)).is_compatible
    assert ids(compare(answered(one), answered(both))) == {"response-alternative-added"}
    assert ids(compare(asked(both), asked(one))) == {"request-alternative-removed"}
    assert compare(answered(both), answered(one)).is_compatible


def test_an_alternative_that_another_one_covers_is_not_missed() -> None:
    old = {"oneOf": [{"type": "integer", "maximum": 5}, {"type": "integer", "minimum": 7}]}
    assert compare(asked(old), asked(WHOLE)).is_compatible
    assert not compare(answered(old), answered(WHOLE)).is_compatible


def test_a_change_of_alternatives_says_how_they_were_told_apart() -> None:
    (found,) = compare(asked({"oneOf": [CAT, DOG]}), asked({"oneOf": [CAT]})).findings
    assert "by name, tag or type" in found.message


def test_what_only_answers_have_does_not_break_requests() -> None:
    def photo(**more: object) -> dict[str, Any]:
        schema = {
            "type": "object",
            "properties": {"id": {"type": "integer", "readOnly": True, **more}},
            "required": ["id"],
        }
        return document(
            {**asked(schema)["paths"]["/photos"]["put"], **answered(schema)["paths"]["/photos"]["put"]["responses"]}
        )

    assert compare(photo(), photo(maximum=5)).is_compatible


WIDER: list[Any] = [
    pytest.param({"type": "integer", "format": "int32"}, {"type": "integer", "format": "int64"}, id="int32 in int64"),
    pytest.param(WHOLE, {"type": "number"}, id="whole numbers are numbers"),
    pytest.param(
        {"type": "number", "multipleOf": 0.1}, {"type": "number", "multipleOf": 0.05}, id="tenths are twentieths"
    ),
    pytest.param({"additionalProperties": WHOLE}, {"additionalProperties": {"type": "number"}}, id="of a map"),
    pytest.param({"items": WHOLE}, {"items": {"type": "number"}}, id="of a list"),
    pytest.param({"prefixItems": [WHOLE]}, {"prefixItems": [{"type": "number"}]}, id="of a tuple"),
    pytest.param({"properties": {"a": WHOLE}}, {"properties": {"a": {}}}, id="anything"),
    pytest.param({"type": "object", "additionalProperties": WHOLE}, {"additionalProperties": WHOLE}, id="no type"),
    pytest.param(
        {"allOf": [{"maximum": 5}, {"maximum": 7}], "type": "integer"},
        {"type": "integer", "maximum": 6},
        id="the tightest of an allOf",
    ),
]


@pytest.mark.parametrize(("narrow", "wide"), WIDER)
def test_wider_is_safe_for_requests_and_breaks_answers(narrow: object, wide: object) -> None:
    assert compare(asked(narrow), asked(wide)).is_compatible
    assert not compare(asked(wide), asked(narrow)).is_compatible
    assert not compare(answered(narrow), answered(wide)).is_compatible
    assert compare(answered(wide), answered(narrow)).is_compatible


def test_what_is_limited_without_a_type_is_found_behind_a_type_that_widened() -> None:
    old, new = {"type": "object", "additionalProperties": {}}, {"additionalProperties": WHOLE}
    assert ids(compare(asked(old), asked(new))) == {"request-type-widened", "request-additional-properties-closed"}


def test_an_answer_is_covered_by_its_hundred_and_by_the_default() -> None:
    def answers(*statuses: str) -> dict[str, Any]:
        return document({"responses": {status: {"description": "x"} for status in statuses}})

    assert compare(answers("200", "404"), answers("200", "4XX")).is_compatible
    assert compare(answers("200", "404"), answers("200", "default")).is_compatible
    assert ids(compare(answers("200", "404"), answers("200"))) == {"response-error-status-removed"}


def test_a_media_type_is_covered_by_its_kind() -> None:
    def taking(*media: str) -> dict[str, Any]:
        return document({"requestBody": {"content": {name: {} for name in media}}})

    assert compare(taking("image/png"), taking("image/*")).is_compatible
    assert compare(taking("image/png; q=1"), taking("IMAGE/PNG")).findings == ()
    assert ids(compare(taking("image/*"), taking("image/png"))) == {"request-media-type-removed"}


def test_parameters_of_a_path_hold_for_its_methods_and_its_methods_may_say_otherwise() -> None:
    size = {"name": "size", "in": "query", "schema": WHOLE}

    def at(path_level: list[object], own: list[object]) -> dict[str, Any]:
        return {"openapi": "3.1.0", "paths": {"/a": {"parameters": path_level, "get": {"parameters": own}}}}

    assert compare(at([size], []), at([], [size])).findings == ()
    assert ids(compare(at([size], []), at([size], [{**size, "required": True}]))) == {
        "request-parameter-became-required"
    }


def test_who_was_let_in_by_a_scope_more_is_still_let_in_by_one_less() -> None:
    more, less = document({"security": [{"login": ["a", "b"]}]}), document({"security": [{"login": ["a"]}]})
    assert ids(compare(more, less)) == {"security-loosened"}
    assert ids(compare(less, more)) == {"security-tightened"}
    assert ids(compare(less, document({"security": [{"login": ["a"]}, {}]}))) == {"security-loosened"}


def test_security_of_the_whole_document_is_that_of_an_operation_that_says_nothing() -> None:
    whole = {**document({}), "security": [{"key": []}]}
    assert ids(compare(document({}), whole)) == {"security-added"}
    assert compare(whole, document({"security": [{"key": []}]})).findings == ()
    assert ids(compare(whole, {**document({"security": []}), "security": [{"key": []}]})) == {"security-loosened"}


def test_what_is_not_compared_is_said() -> None:
    diff = compare(document({}), {**document({"callbacks": {"done": {}}}), "servers": [{"url": "/v2"}]})
    assert [one.id for one in diff.findings] == ["not-compared", "not-compared"]
    assert diff.is_compatible


def test_too_many_findings_are_counted_and_a_break_among_them_still_breaks() -> None:
    old = {f"p{n}": WHOLE for n in range(FINDINGS_MAX + 50)}
    new = {name: {"type": "integer", "default": 1} for name in old} | {"zz": WHOLE}
    diff = compare(
        asked({"properties": old, "type": "object"}), asked({"properties": new, "type": "object", "required": ["zz"]})
    )
    assert len(diff.findings) == FINDINGS_MAX
    assert diff.count(Severity.NOTE) == FINDINGS_MAX + 50
    assert not diff.is_compatible


def test_a_break_that_somebody_answers_for_is_a_note() -> None:
    diff = compare(asked(WHOLE), asked(TEXT))
    accepted = diff.accepting(["request-type-changed"])
    assert accepted.is_compatible
    assert [one.severity for one in accepted.findings] == [Severity.NOTE]
    assert not diff.accepting(["response-type-changed"]).is_compatible


def test_findings_are_in_one_order_with_breaking_ones_first() -> None:
    old = document({**asked({"properties": {"a": WHOLE, "b": TEXT}})["paths"]["/photos"]["put"]})
    new = document({**asked({"properties": {"a": TEXT, "c": TEXT}})["paths"]["/photos"]["put"], "deprecated": True})
    diff = compare(old, new)
    assert [one.severity for one in diff.findings] == sorted(
        (one.severity for one in diff.findings), key=["breaking", "note", "safe"].index
    )
    assert diff == compare(old, new)
    assert ids(diff) <= CHECKS.keys()


def test_neither_document_is_changed() -> None:
    old, new = asked({"allOf": [{"properties": {"a": WHOLE}}]}), asked({"properties": {"a": TEXT}})
    before = json.dumps([old, new])
    compare(old, new)
    assert json.dumps([old, new]) == before
