"""Two schemas, one direction: what narrowed and what widened, down to the leaves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from spinyard.spinout.contract import values
from spinyard.spinout.contract.checks import Direction
from spinyard.spinout.contract.document import token
from spinyard.spinout.contract.report import Here, Report
from spinyard.spinout.contract.shape import Node, Shape, Shaper
from spinyard.spinout.contract.values import NOTHING

Key = tuple[frozenset[int], frozenset[int]]
Branch = tuple[Node | None, Shape]


class Schemas:
    """For one message (a body, a parameter): a pair of schemas is compared where it is met first, so recursion ends and
    a schema that is used twice is told once."""

    def __init__(self, old: Shaper, new: Shaper, seen: Iterable[tuple[Key, Key]] = ()) -> None:
        self._old, self._new = old, new
        self._seen = set(seen)

    def compare(self, old: Node, new: Node, here: Here) -> None:
        pair = (old.key, new.key)
        if pair in self._seen:
            return
        self._seen.add(pair)
        self._new.spend(here.place.pointer)
        self._shapes(self._old.shape(old), self._new.shape(new), here)

    def _shapes(self, a: Shape, b: Shape, here: Here) -> None:
        values.nullability(a, b, here)
        if a.alternatives or b.alternatives:
            self._alternatives(a, b, here)
            return
        if not values.types(a, b, here):
            return
        values.enums(a, b, here)
        values.formats(a, b, here)
        values.bounds(a, b, here)
        values.patterns(a, b, here)
        values.multiples(a, b, here)
        values.unique(a, b, here)
        values.opaque(a, b, here)
        values.default(a, b, here)
        self._properties(a, b, here)
        self._items(a, b, here)

    # --- objects ------------------------------------------------------------------------------------------------------

    def _properties(self, a: Shape, b: Shape, here: Here) -> None:
        old = {name: node for name, node in a.properties.items() if self._is_sent(self._old, node, here)}
        new = {name: node for name, node in b.properties.items() if self._is_sent(self._new, node, here)}
        old_required = {name for name in a.required if name in old or name not in a.properties}
        new_required = {name for name in b.required if name in new or name not in b.properties}
        before, after = old.keys() | old_required, new.keys() | new_required
        for name in sorted(before | after):
            inside = here.at(f"/properties{token(name)}", f".{name}")
            if name not in after:
                self._removed(name, old.get(name), name in old_required, b, inside)
            elif name not in before:
                self._added(name, new.get(name), name in new_required, a, inside)
            else:
                values.requiredness(name, name in old_required, name in new_required, inside)
                self._kept(old.get(name), new.get(name), inside)
        self._additional(a, b, here.at("/additionalProperties", ".*"))

    def _kept(self, old: Node | None, new: Node | None, here: Here) -> None:
        """A property may be required without a schema."""
        if old is not None and new is not None:
            self.compare(old, new, here)
        elif new is not None and not self._new.shape(new).is_anything:
            here.say("type-narrowed", "anything", "a schema", "what it may be was open and is limited now")
        elif old is not None and not self._old.shape(old).is_anything:
            here.say("type-widened", "a schema", "anything", "what it may be was limited and is open now")

    def _is_sent(self, shaper: Shaper, node: Node, here: Here) -> bool:
        """readOnly is not for requests, writeOnly not for responses."""
        shape = shaper.shape(node)
        return not (shape.read_only if here.direction is Direction.REQUEST else shape.write_only)

    def _removed(self, name: str, node: Node | None, is_required: bool, b: Shape, here: Here) -> None:
        was = f"{'required' if is_required else 'optional'} property"
        if here.direction is Direction.RESPONSE:
            kind = "required-property-removed" if is_required else "property-removed"
            here.say(kind, was, NOTHING, f"answers no longer have {name}")
        elif b.additional is False:
            here.say("property-refused", was, "refused", f"{name} is refused now: the object takes no other properties")
        else:
            here.say("property-removed", was, NOTHING, f"{name} is taken and means nothing any more")
            if node is not None and isinstance(b.additional, Node):
                self.compare(node, b.additional, here)

    def _added(self, name: str, node: Node | None, is_required: bool, a: Shape, here: Here) -> None:
        now = f"{'required' if is_required else 'optional'} property"
        if here.direction is Direction.REQUEST:
            kind = "required-property-added" if is_required else "property-added"
            here.say(kind, NOTHING, now, f"{name} {'must be sent now' if is_required else 'may be sent now'}")
        elif a.additional is False:
            here.say(
                "property-added-to-closed-object",
                NOTHING,
                now,
                f"{name} is new, and there were to be no other properties",
            )
        else:
            here.say("property-added", NOTHING, now, f"answers have {name} now")
        if node is not None and isinstance(a.additional, Node):
            self.compare(a.additional, node, here)

    def _additional(self, a: Shape, b: Shape, here: Here) -> None:
        match a.additional, b.additional:
            case Node() as old, Node() as new:
                self.compare(old, new, here)
            case (old, new) if old == new:
                pass
            case (old, new):
                was, now = values.openness(old), values.openness(new)
                closed = new is False or old is True
                name = "additional-properties-closed" if closed else "additional-properties-opened"
                here.say(name, was, now, f"other properties: {was} before, {now} now")

    # --- arrays -------------------------------------------------------------------------------------------------------

    def _items(self, a: Shape, b: Shape, here: Here) -> None:
        for n in range(max(len(a.prefix), len(b.prefix))):
            old = a.prefix[n] if n < len(a.prefix) else a.items
            new = b.prefix[n] if n < len(b.prefix) else b.items
            self._item(old, new, here.at(f"/prefixItems/{n}", f"[{n}]"))
        self._item(a.items, b.items, here.at("/items", "[]"))

    def _item(self, old: Node | None, new: Node | None, here: Here) -> None:
        if old is not None and new is not None:
            self.compare(old, new, here)
        elif new is not None and not self._new.shape(new).is_anything:
            here.say("items-limited", "anything", "a schema", "what an item may be was open and is limited now")
        elif old is not None and not self._old.shape(old).is_anything:
            here.say("items-unlimited", "a schema", "anything", "what an item may be was limited and is open now")

    # --- oneOf, anyOf -------------------------------------------------------------------------------------------------

    def _alternatives(self, a: Shape, b: Shape, here: Here) -> None:
        """Each old alternative finds its own among the new ones by name, tag or type; what finds none must fit into one
        as it is. Whether two together cover a third is not worked out: such a change is called breaking."""
        old, new = _branches(a), _branches(b)
        pairs = _matched(old, new)
        for n, m in pairs:
            self._branch(old[n], new[m], here.at(f"/oneOf/{m}", f"<{_label(new[m], m)}>" if b.alternatives else ""))
        left = [n for n in range(len(old)) if n not in dict(pairs)]
        come = [m for m in range(len(new)) if m not in {m for _, m in pairs}]
        for n in left:
            if not any(self._fits(old[n], one, here, Direction.REQUEST) for one in new):
                label = _label(old[n], n)
                here.at(f"/oneOf/{n}").say(
                    "alternative-removed", label, NOTHING, f"the alternative {label} is gone{_HOW}"
                )
        for m in come:
            if not any(self._fits(one, new[m], here, Direction.RESPONSE) for one in old):
                label = _label(new[m], m)
                here.at(f"/oneOf/{m}").say("alternative-added", NOTHING, label, f"the alternative {label} is new{_HOW}")

    def _branch(self, old: Branch, new: Branch, here: Here) -> None:
        if old[0] is not None and new[0] is not None:
            pair = (old[0].key, new[0].key)
            if pair in self._seen:
                return
            self._seen.add(pair)
        self._shapes(_without_null(old[1]), _without_null(new[1]), here)

    def _fits(self, old: Branch, new: Branch, here: Here, direction: Direction) -> bool:
        """Whether all old values are new ones (as of requests), or all new ones old (as of responses)."""
        trial = Report()
        attempt = Schemas(self._old, self._new, self._seen)
        attempt._shapes(_without_null(old[1]), _without_null(new[1]), Here(trial, direction, here.place))
        return not trial.is_breaking


_HOW: Final = " (alternatives are told apart by name, tag or type, not by all the values that they allow)"


def _branches(shape: Shape) -> list[Branch]:
    return list(shape.alternatives) if shape.alternatives else [(None, shape)]


def _without_null(shape: Shape) -> Shape:
    """Null was compared for the union as a whole."""
    return replace(shape, nullable=None)


def _matched(old: list[Branch], new: list[Branch]) -> list[tuple[int, int]]:
    """Pairs of which both have a name that no other has on its side; the surest kind of name first."""
    pairs: list[tuple[int, int]] = []
    for kind in range(3):
        left = [n for n in range(len(old)) if n not in {n for n, _ in pairs}]
        come = [m for m in range(len(new)) if m not in {m for _, m in pairs}]
        mine = _named(old, left, kind)
        theirs = _named(new, come, kind)
        pairs += [(mine[name], theirs[name]) for name in mine if name in theirs]
    return sorted(pairs)


def _named(branches: list[Branch], among: list[int], kind: int) -> dict[object, int]:
    names: dict[object, list[int]] = {}
    for n in among:
        name = _names(branches[n])[kind]
        if name:
            names.setdefault(name, []).append(n)
    return {name: found[0] for name, found in names.items() if len(found) == 1}


def _names(branch: Branch) -> tuple[object, object, object]:
    node, shape = branch
    return (node.names if node else ()), _tag(shape), shape.types


def _tag(shape: Shape) -> tuple[str, ...]:
    """Required properties that can have one value only."""
    found: list[str] = []
    for name in sorted(shape.required & shape.properties.keys()):
        values = [value for raw in shape.properties[name].raws for value in _only_value(raw)]
        found += [f"{name}={value}" for value in values]
    return tuple(found)


def _only_value(raw: dict[str, object]) -> list[object]:
    if "const" in raw:
        return [raw["const"]]
    listed = raw.get("enum")
    return listed if isinstance(listed, list) and len(listed) == 1 else []


def _label(branch: Branch, n: int) -> str:
    node, shape = branch
    if node is not None and node.names:
        return node.names[-1]
    if tag := _tag(shape):
        return ", ".join(tag)
    return f"{n + 1}: {values.type_text(shape.types)}"
