"""What one value may be, before and now: type, enum, format, bounds and the like; nothing inside of it."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Final

from spinyard.spinout.contract.keywords import LOWER, UPPER, is_tighter
from spinyard.spinout.contract.report import Here
from spinyard.spinout.contract.shape import Node, Shape

NOTHING: Final = "nothing"
_INSIDE: Final = {"int32": "int64", "float": "double"}
_WORDS: Final = {
    "minimum": "minimum",
    "minLength": "min-length",
    "minItems": "min-items",
    "minProperties": "min-properties",
    "maximum": "maximum",
    "maxLength": "max-length",
    "maxItems": "max-items",
    "maxProperties": "max-properties",
}


def nullability(a: Shape, b: Shape, here: Here) -> None:
    if a.nullable is None and b.nullable is None:
        return
    # A schema that says nothing takes null too; that its type was limited is told once, by the type.
    if a.nullable and b.nullable is False:
        here.say("became-not-nullable", "may be null", "never null", "null is not allowed any more")
    elif a.nullable is False and b.nullable:
        here.say("became-nullable", "never null", "may be null", "null is allowed now")


def types(a: Shape, b: Shape, here: Here) -> bool:
    """Whether it makes sense to look further."""
    if a.types == b.types:
        return True
    was, now = type_text(a.types), type_text(b.types)
    narrows = a.types is None or (b.types is not None and not _covers(b.types, a.types))
    widens = b.types is None or (a.types is not None and not _covers(a.types, b.types))
    if a.types is None:
        narrows, widens = True, False
    elif b.types is None:
        narrows, widens = False, True
    name = "type-changed" if narrows and widens else "type-narrowed" if narrows else "type-widened"
    here.say(name, was, now, f"the type was {was} and is {now}")
    if a.types is None or b.types is None:
        return not a.is_anything and not b.is_anything
    return _covers(a.types, b.types) or _covers(b.types, a.types)


def _covers(types: frozenset[str], others: frozenset[str]) -> bool:
    return all(one in types or (one == "integer" and "number" in types) for one in others)


def type_text(types: frozenset[str] | None) -> str:
    if types is None:
        return "anything"
    return " or ".join(sorted(types)) or "null"


def enums(a: Shape, b: Shape, here: Here) -> None:
    if a.enum is None and b.enum is None:
        return
    if a.enum is None or b.enum is None:
        was, now = _values(a.enum), _values(b.enum)
        here.at("/enum").say("enum-added" if a.enum is None else "enum-removed", was, now, f"{was} before, {now} now")
        return
    gone = [value for value in a.enum if value not in b.enum]
    come = [value for value in b.enum if value not in a.enum]
    if gone:
        message = f"not allowed any more: {_values(gone)}"
        here.at("/enum").say("enum-value-removed", _values(a.enum), _values(b.enum), message)
    if come:
        here.at("/enum").say("enum-value-added", _values(a.enum), _values(b.enum), f"allowed now: {_values(come)}")


def _values(values: Iterable[str] | None) -> str:
    return "any value" if values is None else ", ".join(values)


def formats(a: Shape, b: Shape, here: Here) -> None:
    if a.formats == b.formats:
        return
    was, now = " and ".join(sorted(a.formats)) or NOTHING, " and ".join(sorted(b.formats)) or NOTHING
    narrows, widens = not b.formats <= a.formats, not a.formats <= b.formats
    if narrows and widens:
        narrows = _INSIDE.get(was) != now
        widens = _INSIDE.get(now) != was
    name = "format-changed" if narrows and widens else "format-added" if narrows else "format-removed"
    here.at("/format").say(name, was, now, f"the format was {was} and is {now}")


def bounds(a: Shape, b: Shape, here: Here) -> None:
    for word in (*LOWER, *UPPER):
        old, new = a.bounds.get(word), b.bounds.get(word)
        if old == new:
            continue
        was, now = old.text() if old else NOTHING, new.text() if new else NOTHING
        tightened = new is not None and (old is None or is_tighter(word, new, old))
        name = f"{_WORDS[word]}-{'tightened' if tightened else 'loosened'}"
        here.at(f"/{word}").say(name, was, now, f"{word} was {was} and is {now}")


def patterns(a: Shape, b: Shape, here: Here) -> None:
    if a.patterns == b.patterns:
        return
    was, now = " and ".join(sorted(a.patterns)) or NOTHING, " and ".join(sorted(b.patterns)) or NOTHING
    name = "added" if a.patterns < b.patterns else "removed" if a.patterns > b.patterns else "changed"
    here.at("/pattern").say(
        f"pattern-{name}", was, now, "the pattern is another; which texts fit both is not worked out"
    )


def multiples(a: Shape, b: Shape, here: Here) -> None:
    if a.multiples == b.multiples:
        return
    was, now = _number_text(a.multiples), _number_text(b.multiples)
    narrows = not _implied(b.multiples, a.multiples)
    widens = not _implied(a.multiples, b.multiples)
    if not narrows and not widens:
        return
    name = "changed" if narrows and widens else "tightened" if narrows else "loosened"
    here.at("/multipleOf").say(f"multiple-of-{name}", was, now, f"multipleOf was {was} and is {now}")


def _implied(wanted: frozenset[Fraction], given: frozenset[Fraction]) -> bool:
    return all(any(one and other % one == 0 for other in given) for one in wanted)


def _number_text(values: frozenset[Fraction]) -> str:
    return " and ".join(f"{float(value):g}" for value in sorted(values)) or NOTHING


def unique(a: Shape, b: Shape, here: Here) -> None:
    if a.unique != b.unique:
        was, now = ("different" if one.unique else "any" for one in (a, b))
        name = "unique-items-added" if b.unique else "unique-items-removed"
        here.at("/uniqueItems").say(name, f"{was} items", f"{now} items", f"items were {was} and are {now}")


def opaque(a: Shape, b: Shape, here: Here) -> None:
    for word in sorted(a.opaque.keys() | b.opaque.keys()):
        was, now = a.opaque.get(word, NOTHING), b.opaque.get(word, NOTHING)
        if was != now:
            message = f"{word} changed; what it allows is not worked out, so it is called breaking"
            here.at(f"/{word}").say("keyword-changed", was, now, message)


def default(a: Shape, b: Shape, here: Here) -> None:
    if a.default != b.default:
        was, now = a.default or NOTHING, b.default or NOTHING
        here.at("/default").say("default-changed", was, now, f"the default was {was} and is {now}")


def requiredness(name: str, was: bool, now: bool, here: Here) -> None:
    if was != now:
        kind = "property-became-required" if now else "property-became-optional"
        words = {True: "required", False: "optional"}
        here.say(kind, words[was], words[now], f"{name} was {words[was]} and is {words[now]}")


def openness(additional: Node | bool) -> str:
    if isinstance(additional, Node):
        return "limited by a schema"
    return "allowed" if additional else "refused"
