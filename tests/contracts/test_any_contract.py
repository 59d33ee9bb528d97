"""Over generated contracts: nothing differs from itself, directions are mirrors, and "compatible" is kept."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinyard.spinout.contract import InvalidContract, compare
from spinyard.spinout.contract.planted import answered, asked

NAMES = st.sampled_from("abc")
SMALL = st.integers(0, 4)


def schemas(depth: int = 2) -> st.SearchStrategy[Any]:
    plain = st.one_of(
        st.just({}),
        st.fixed_dictionaries(
            {"type": st.sampled_from([["integer"], ["number"], ["integer", "null"], "integer"])},
            optional={
                "minimum": SMALL,
                "maximum": SMALL,
                "exclusiveMaximum": SMALL,
                "multipleOf": st.sampled_from([1, 2]),
            },
        ),
        st.fixed_dictionaries(
            {"type": st.sampled_from(["string", ["string", "null"]])},
            optional={
                "minLength": SMALL,
                "maxLength": SMALL,
                "enum": st.lists(NAMES, min_size=1, max_size=3, unique=True),
            },
        ),
        st.fixed_dictionaries(
            {"enum": st.lists(st.sampled_from(["a", "b", 1, 2, None, True]), min_size=1, unique_by=repr)}
        ),
    )
    if depth == 0:
        return plain
    inner = schemas(depth - 1)
    return st.one_of(
        plain,
        st.fixed_dictionaries(
            {"type": st.just("object")},
            optional={
                "properties": st.dictionaries(NAMES, inner, max_size=3),
                "required": st.lists(NAMES, max_size=2, unique=True),
                "additionalProperties": st.one_of(st.booleans(), inner),
                "maxProperties": SMALL,
            },
        ),
        st.fixed_dictionaries(
            {"type": st.just("array")},
            optional={"items": inner, "minItems": SMALL, "maxItems": SMALL, "uniqueItems": st.booleans()},
        ),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)}),
    )


@st.composite
def edits(draw: st.DrawFn, old: Any) -> Any:
    """Another version of the same schema: here a keyword less, there another part."""
    if not isinstance(old, dict) or draw(st.integers(0, 5)) == 0:
        return draw(schemas(1))
    new = {}
    for word, value in old.items():
        match word, draw(st.integers(0, 5)):
            case (_, 0):
                pass
            case ("properties", _):
                new[word] = {name: draw(edits(part)) for name, part in value.items()}
            case ("anyOf" | "allOf", _):
                new[word] = [draw(edits(part)) for part in value]
            case ("items" | "additionalProperties", _):
                new[word] = draw(edits(value))
            case (_, 1) if isinstance(value, int) and not isinstance(value, bool):
                new[word] = draw(st.integers(1, 4))
            case (_, 1) if word in ("required", "enum"):
                new[word] = value[:-1] or value
            case _:
                new[word] = value
    return new


VERSIONS = schemas().flatmap(lambda old: st.tuples(st.just(old), edits(old)))

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-1, 5),
        st.sampled_from([0.5, 1.5]),
        st.sampled_from(["", "a", "b", "ccc"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)
# Milder than sets, by custom: a property that is new in an open object had been anything before.
BY_CUSTOM = {"request-property-added"}
LOOKED_AT_LEAST = 20
"""of 150: what a test is about must have been drawn"""
FEW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@FEW
@given(schemas())
def test_nothing_differs_from_itself(schema: Any) -> None:
    assert compare(asked(schema), asked(schema)).findings == ()
    assert compare(answered(schema), answered(schema)).findings == ()


def test_a_request_that_narrows_is_an_answer_that_narrows() -> None:
    """What a change is called does not depend on the direction, only how bad it is. Where properties or alternatives
    differ, their names do depend on it."""
    mirrored = 0

    @FEW
    @given(VERSIONS)
    def look(versions: tuple[Any, Any]) -> None:
        nonlocal mirrored
        old, new = versions
        there = {one.id.partition("-")[2] for one in compare(asked(old), asked(new)).findings}
        back = {one.id.partition("-")[2] for one in compare(answered(old), answered(new)).findings}
        if any("property" in name or "alternative" in name for name in there | back):
            return
        mirrored += bool(there)
        assert {name for name in there ^ back if "default" not in name} == set()

    look()
    assert mirrored >= LOOKED_AT_LEAST


def test_what_is_called_compatible_takes_every_value_that_was_taken() -> None:
    """The judge is another implementation of JSON Schema, in another language."""
    compared = 0

    @FEW
    @given(VERSIONS, st.lists(VALUES, min_size=1, max_size=12))
    def look(versions: tuple[Any, Any], values: list[Any]) -> None:
        nonlocal compared
        old, new = versions
        diff = compare(asked(old), asked(new))
        if not diff.is_compatible or BY_CUSTOM & {one.id for one in diff.findings}:
            return
        before, after = jsonschema_rs.validator_for(old), jsonschema_rs.validator_for(new)
        taken = [value for value in values if before.is_valid(value)]
        compared += bool(taken)
        for value in taken:
            assert after.is_valid(value), (value, [one.id for one in diff.findings])

    look()
    assert compared >= LOOKED_AT_LEAST


@FEW
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from(["openapi", "paths", "/a", "get", "responses", "$ref", "type"]), x)
        ),
        max_leaves=12,
    )
)
def test_whatever_is_given_is_compared_or_refused_with_a_place(found: Any) -> None:
    shell = {"openapi": "3.1.0", "paths": {"/a": found}}
    for given_document in (found, shell):
        try:
            assert compare(given_document, given_document).findings == ()
        except InvalidContract as error:
            assert error.problem
            assert error.next_step
