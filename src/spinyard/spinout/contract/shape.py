"""A schema as one flat shape: $refs followed, allOf merged, both dialects of OpenAPI told the same way.

A `Node` is a set of schemas that must hold together, named by the ids of their dicts in the document, of which there
are finitely many: so a recursive schema comes back to a node that was seen, and whoever walks nodes ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product
from typing import Final

from spinyard.spinout.contract.document import (
    Document,
    InvalidContract,
    TooComplex,
    as_list,
    as_object,
    canonical,
    kind_of,
    token,
)
from spinyard.spinout.contract.keywords import (
    NULL,
    Bound,
    bounds_of,
    enum_of,
    formats_of,
    number_of,
    required_of,
    texts_of,
    types_of,
)

WORK_MAX: Final = 200_000
"""shapes made for one document or one comparison"""
ALTERNATIVES_MAX: Final = 100
"""of one schema, when its oneOf and anyOf are multiplied out"""

OPAQUE: Final = (
    *("not", "if", "then", "else", "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas"),
    *("contains", "minContains", "maxContains", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef"),
    *("discriminator", "contentSchema"),
)
"""compared as they are written, since what they allow is not worked out"""

_NEVER: Final[dict[str, object]] = {"not": {}}


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """`picked`: ids of the oneOf and anyOf lists of which one alternative has been taken already."""

    raws: tuple[dict[str, object], ...]
    pointer: str
    picked: frozenset[int] = frozenset()
    names: tuple[str, ...] = ()
    """of an alternative: the names of the schemas that it refers to"""

    @property
    def key(self) -> tuple[frozenset[int], frozenset[int]]:
        return frozenset(map(id, self.raws)), self.picked


@dataclass(frozen=True, slots=True)
class Shape:
    """None, or empty, is: not limited. Values of enum and default are canonical JSON."""

    types: frozenset[str] | None = None
    nullable: bool | None = None
    enum: tuple[str, ...] | None = None
    formats: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    multiples: frozenset[Fraction] = frozenset()
    unique: bool = False
    properties: Mapping[str, Node] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    additional: Node | bool = True
    items: Node | None = None
    prefix: tuple[Node, ...] = ()
    opaque: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    read_only: bool = False
    write_only: bool = False
    alternatives: tuple[tuple[Node, Shape], ...] = ()
    """of a union: at least two, without null; the other fields are then empty"""

    @property
    def is_anything(self) -> bool:
        return self == Shape(default=self.default, read_only=self.read_only, write_only=self.write_only)


class Shaper:
    """Makes shapes of one document, each once; counts the work over all of them."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._shapes: dict[tuple[frozenset[int], frozenset[int]], Shape] = {}
        self._work = 0

    def node(self, raw: object, pointer: str) -> Node:
        return self._join((raw,), pointer)

    def shape(self, node: Node) -> Shape:
        """Raises InvalidContract for a schema that is none."""
        known = self._shapes.get(node.key)
        if known is None:
            self.spend(node.pointer)
            known = self._shapes[node.key] = self._make(node)
        return known

    def spend(self, pointer: str, amount: int = 1) -> None:
        self._work += amount
        if self._work > WORK_MAX:
            raise TooComplex(f"its schemas unfold into more than {WORK_MAX:,}", pointer)

    # --- one node -----------------------------------------------------------------------------------------------------

    def _join(self, raws: tuple[object, ...], pointer: str, picked: frozenset[int] = frozenset()) -> Node:
        """All $refs and allOf of these schemas, as a flat list without repetitions."""
        flat: list[dict[str, object]] = []
        seen: set[int] = set()
        stack = list(reversed(raws))
        while stack:
            raw = stack.pop()
            if raw is True:
                continue
            if raw is False:
                raw = _NEVER
            if not isinstance(raw, dict):
                raise InvalidContract(f"a schema is an object, this is {kind_of(raw)}", pointer)
            if id(raw) in seen:
                continue
            seen.add(id(raw))
            if "$ref" in raw:
                stack.append(self._document.target(raw["$ref"], pointer)[0])
                if self._document.minor == 0 or len(raw) == 1:
                    continue  # in 3.0 what stands beside a $ref does not count
            if "allOf" in raw:
                stack += reversed(as_list(raw["allOf"], f"{pointer}/allOf"))
            flat.append(raw)
        self.spend(pointer, len(flat))
        return Node(tuple(flat), pointer, picked)

    def _make(self, node: Node) -> Shape:
        unions: list[tuple[str, list[object]]] = [
            (word, as_list(raw[word], f"{node.pointer}/{word}"))
            for raw in node.raws
            for word in ("oneOf", "anyOf")
            if word in raw and id(raw[word]) not in node.picked
        ]
        return self._union(node, unions) if unions else self._plain(node)

    def _union(self, node: Node, unions: list[tuple[str, list[object]]]) -> Shape:
        picked = node.picked | {id(listed) for _, listed in unions}
        count = 1
        for word, listed in unions:
            if not listed:
                raise InvalidContract(f"{word} has no alternative", node.pointer)
            count *= len(listed)
        if count > ALTERNATIVES_MAX:
            raise TooComplex(f"its oneOf and anyOf give {count:,} alternatives", node.pointer)
        found: list[tuple[Node, Shape]] = []
        for choice in product(*(enumerate(listed) for _, listed in unions)):
            place = "".join(f"/{word}/{n}" for (word, _), (n, _) in zip(unions, choice, strict=True))
            one = self._join((*node.raws, *(raw for _, raw in choice)), node.pointer + place, picked)
            if any(isinstance(raw, dict) for _, raw in choice) and len(one.raws) == len(node.raws):
                continue  # it leads back to this union, and adds nothing to it
            one = replace(one, names=tuple(name for _, raw in choice for name in _ref_names(raw)))
            found += self._unfold(one, self.shape(one))
        real = [(one, shape) for one, shape in found if shape.types != frozenset()]
        nullable = any(shape.nullable for _, shape in found)
        if not real:
            return Shape(types=frozenset(), nullable=nullable)
        if len(real) == 1:
            return replace(real[0][1], nullable=nullable)
        return Shape(
            alternatives=tuple(real),
            nullable=nullable,
            read_only=_is_marked(node, "readOnly"),
            write_only=_is_marked(node, "writeOnly"),
        )

    def _unfold(self, node: Node, shape: Shape) -> list[tuple[Node, Shape]]:
        if not shape.alternatives:
            return [(node, shape)]
        return [*shape.alternatives, *([(node, Shape(types=frozenset(), nullable=True))] if shape.nullable else [])]

    def _plain(self, node: Node) -> Shape:
        raws, pointer = node.raws, node.pointer
        if any(raw is _NEVER for raw in raws):
            return Shape(types=frozenset(), nullable=False)
        enum = enum_of(raws, pointer)
        types, nullable = types_of(raws, pointer, self._document.minor, enum)
        if enum is not None:
            enum = tuple(value for value in enum if value != NULL)
        bounds = bounds_of(raws, pointer, is_integer=types == frozenset({"integer"}))
        return Shape(
            types=types,
            nullable=nullable,
            enum=enum,
            formats=formats_of(raws, pointer),
            patterns=frozenset(texts_of(raws, "pattern", pointer)),
            bounds=bounds,
            multiples=frozenset(
                number_of(raw["multipleOf"], f"{pointer}/multipleOf") for raw in raws if "multipleOf" in raw
            ),
            unique=any(raw.get("uniqueItems") is True for raw in raws),
            properties=self._properties(node),
            required=required_of(raws, pointer),
            additional=self._additional(node),
            items=self._items(node),
            prefix=self._prefix(node),
            opaque=self._opaque(node),
            default=next((canonical(raw["default"]) for raw in raws if "default" in raw), None),
            read_only=_is_marked(node, "readOnly"),
            write_only=_is_marked(node, "writeOnly"),
        )

    # --- what is inside -----------------------------------------------------------------------------------------------

    def _properties(self, node: Node) -> dict[str, Node]:
        found: dict[str, list[object]] = {}
        for raw in node.raws:
            place = f"{node.pointer}/properties"
            for name, schema in as_object(raw.get("properties", {}), place).items():
                found.setdefault(name, []).append(schema)
        return {
            name: self._join(tuple(schemas), f"{node.pointer}/properties{token(name)}")
            for name, schemas in sorted(found.items())
        }

    def _additional(self, node: Node) -> Node | bool:
        given = [raw["additionalProperties"] for raw in node.raws if "additionalProperties" in raw]
        if False in given:
            return False
        limited = tuple(one for one in given if one is not True and one != {})
        return self._join(limited, f"{node.pointer}/additionalProperties") if limited else True

    def _items(self, node: Node) -> Node | None:
        given = tuple(raw["items"] for raw in node.raws if "items" in raw)
        return self._join(given, f"{node.pointer}/items") if given else None

    def _prefix(self, node: Node) -> tuple[Node, ...]:
        lists = [
            as_list(raw["prefixItems"], f"{node.pointer}/prefixItems") for raw in node.raws if "prefixItems" in raw
        ]
        longest = max(map(len, lists), default=0)
        return tuple(
            self._join(tuple(one[n] for one in lists if n < len(one)), f"{node.pointer}/prefixItems/{n}")
            for n in range(longest)
        )

    def _opaque(self, node: Node) -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for raw in node.raws:
            for word in OPAQUE:
                if word in raw:
                    found.setdefault(word, []).append(self._written(raw[word], node.pointer))
        return {word: " and ".join(sorted(set(texts))) for word, texts in found.items()}

    def _written(self, raw: object, pointer: str) -> str:
        """As it stands, with what its $refs point at; a $ref back to itself stays a name."""
        return canonical(self._put_in(raw, pointer, frozenset()))

    def _put_in(self, raw: object, pointer: str, above: frozenset[str]) -> object:
        self.spend(pointer)
        if isinstance(raw, dict):
            ref = raw.get("$ref")
            if isinstance(ref, str) and ref not in above:
                found, _ = self._document.target(ref, pointer)
                return self._put_in(found, pointer, above | {ref})
            return {key: self._put_in(value, pointer, above) for key, value in raw.items()}
        if isinstance(raw, list):
            return [self._put_in(value, pointer, above) for value in raw]
        return raw


def _is_marked(node: Node, word: str) -> bool:
    return any(raw.get(word) is True for raw in node.raws)


def _ref_names(raw: object) -> tuple[str, ...]:
    ref = raw.get("$ref") if isinstance(raw, dict) else None
    return (ref.rpartition("/")[2],) if isinstance(ref, str) else ()
