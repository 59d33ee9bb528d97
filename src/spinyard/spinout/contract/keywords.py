"""What single keywords of a schema say, over all parts of an allOf together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from spinyard.spinout.contract.document import InvalidContract, as_list, canonical, kind_of, short

TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
LOWER: Final = ("minimum", "minLength", "minItems", "minProperties")
UPPER: Final = ("maximum", "maxLength", "maxItems", "maxProperties")
_COUNTS: Final = ("minLength", "minItems", "minProperties", "maxLength", "maxItems", "maxProperties")
NULL: Final = "null"


@dataclass(frozen=True, slots=True)
class Bound:
    value: Fraction
    exclusive: bool = False

    def text(self) -> str:
        number = str(int(self.value)) if self.value.denominator == 1 else repr(float(self.value))
        return f"{number} (not included)" if self.exclusive else number


def enum_of(raws: tuple[dict[str, object], ...], pointer: str) -> tuple[str, ...] | None:
    found: list[str] | None = None
    for raw in raws:
        given = [raw["const"]] if "const" in raw else None
        if "enum" in raw:
            listed = as_list(raw["enum"], f"{pointer}/enum")
            given = listed if given is None else [one for one in given if one in listed]
        if given is None:
            continue
        values = [canonical(_as_number(value)) for value in given]
        found = values if found is None else [one for one in found if one in values]
    return None if found is None else tuple(dict.fromkeys(found))


def _as_number(value: object) -> object:
    """1.0 and 1 are one value in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def types_of(
    raws: tuple[dict[str, object], ...], pointer: str, minor: int, enum: tuple[str, ...] | None
) -> tuple[frozenset[str] | None, bool | None]:
    """Without null, and whether null is allowed: None when nothing is said."""
    types: frozenset[str] | None = None
    nulls: list[bool] = []
    for raw in raws:
        given = raw.get("type")
        if given is None:
            given = _told_by(raw)
        listed = [given] if isinstance(given, str) else as_list(given, f"{pointer}/type") if given is not None else []
        for one in listed:
            if one not in TYPES:
                raise InvalidContract(f"there is no type {short(one)}", f"{pointer}/type")
        if given is None:
            continue
        names = frozenset(str(one) for one in listed)
        nulls.append("null" in names)
        types = names - {"null"} if types is None else _both(types, names - {"null"})
    if minor == 0 and any(raw.get("nullable") is True for raw in raws):
        # Strictly, null must also be allowed by each part of an allOf. Nobody who writes it means that.
        return types, True
    if types is None and enum is not None:
        types = frozenset(_type_of(value) for value in enum) - {"null"}
        nulls.append(NULL in enum)
    elif enum is not None and minor:
        nulls.append(NULL in enum)
    return types, all(nulls) if nulls else None


def _told_by(raw: dict[str, object]) -> str | None:
    """A schema with properties and no type is meant to be an object."""
    if "properties" in raw or "required" in raw:
        return "object"
    return "array" if "items" in raw or "prefixItems" in raw else None


def _both(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    both = one & other
    if ("integer" in one and "number" in other) or ("number" in one and "integer" in other):
        both |= {"integer"}
    return both


def _type_of(value: str) -> str:
    match value[:1]:
        case '"':
            return "string"
        case "{":
            return "object"
        case "[":
            return "array"
        case "t" | "f":
            return "boolean"
        case "n":
            return "null"
        case _:
            return "integer" if value.lstrip("-").isdecimal() else "number"


def bounds_of(raws: tuple[dict[str, object], ...], pointer: str, *, is_integer: bool) -> dict[str, Bound]:
    found: dict[str, Bound] = {}
    for raw in raws:
        for word, bound in _bounds_of(raw, pointer):
            if is_integer and bound.exclusive and bound.value.denominator == 1:
                bound = Bound(bound.value + (1 if word in LOWER else -1))
            known = found.get(word)
            if known is None or is_tighter(word, bound, known):
                found[word] = bound
    # At least 0 characters is no limit.
    return {word: bound for word, bound in found.items() if word not in LOWER or word == "minimum" or bound.value > 0}


def _bounds_of(raw: dict[str, object], pointer: str) -> Iterator[tuple[str, Bound]]:
    for word in (*LOWER, *UPPER):
        if word in raw:
            value = number_of(raw[word], f"{pointer}/{word}")
            if word in _COUNTS and (value < 0 or value.denominator != 1):
                raise InvalidContract(f"{word} is a whole number from 0, not {float(value):g}", f"{pointer}/{word}")
            exclusive = raw.get("exclusiveMinimum" if word == "minimum" else "exclusiveMaximum")
            yield word, Bound(value, exclusive is True and word in ("minimum", "maximum"))
    for word, own in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if word in raw and not isinstance(raw[word], bool):
            yield own, Bound(number_of(raw[word], f"{pointer}/{word}"), True)


def is_tighter(word: str, one: Bound, other: Bound) -> bool:
    if one.value == other.value:
        return one.exclusive and not other.exclusive
    return one.value > other.value if word in LOWER else one.value < other.value


def number_of(value: object, pointer: str) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidContract(f"there must be a number, this is {kind_of(value)}", pointer)
    return Fraction(str(value))


def formats_of(raws: tuple[dict[str, object], ...], pointer: str) -> frozenset[str]:
    """`format`, and the 3.1 words for the same: base64 is what 3.0 calls byte."""
    found = set(texts_of(raws, "format", pointer))
    for encoding in texts_of(raws, "contentEncoding", pointer):
        found.add("byte" if encoding == "base64" else f"contentEncoding {encoding}")
    for media in texts_of(raws, "contentMediaType", pointer):
        found.add("binary" if media == "application/octet-stream" else f"contentMediaType {media}")
    return frozenset(found)


def texts_of(raws: tuple[dict[str, object], ...], word: str, pointer: str) -> Iterator[str]:
    for raw in raws:
        if word in raw:
            value = raw[word]
            if not isinstance(value, str):
                raise InvalidContract(f"{word} is a text, this is {kind_of(value)}", f"{pointer}/{word}")
            yield value


def required_of(raws: tuple[dict[str, object], ...], pointer: str) -> frozenset[str]:
    found: set[str] = set()
    for raw in raws:
        for name in as_list(raw.get("required", []), f"{pointer}/required"):
            if not isinstance(name, str):
                raise InvalidContract(f"required lists names, this is {kind_of(name)}", f"{pointer}/required")
            found.add(name)
    return frozenset(found)
