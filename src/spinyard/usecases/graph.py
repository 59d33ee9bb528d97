"""Dependencies may not go round: each would wait for the other for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spinyard.core.spec import JobSpec, ObjectSpec, ServiceSpec
from spinyard.errors import InvalidInput
from spinyard.ports.store import Transaction
from spinyard.usecases.declared import Declared, ObjectId

VISITS_MAX = 20_000


def refuse_cycles(tx: Transaction, declared: Sequence[Declared]) -> None:
    """Looks at what is declared and, behind it, at what is stored. Raises InvalidInput (invalid_manifest)."""
    specs: dict[ObjectId, ObjectSpec | None] = {one.id: one.spec for one in declared}
    done: set[ObjectId] = set()
    for index, one in enumerate(declared):
        cycle = _find_cycle(tx, one.id, specs, done)
        if cycle:
            words = " -> ".join(str(id) for id in cycle)
            entry = {
                "path": f"objects[{index}].spec.dependsOn",
                "code": "dependency_cycle",
                "message": f"dependencies go round: {words}",
                "expected": "dependencies without a cycle",
            }
            raise InvalidInput(
                f"Dependencies go round: {words}.",
                code="invalid_manifest",
                next_step="Remove one of these dependencies; nothing was changed.",
                details={"errors": [entry]},
            )


def _find_cycle(
    tx: Transaction, start: ObjectId, specs: dict[ObjectId, ObjectSpec | None], done: set[ObjectId]
) -> list[ObjectId]:
    """Depth first, without recursion: `trail` is the way to here, with what is left to try at each step."""
    if start in done:
        return []
    trail: list[tuple[ObjectId, list[ObjectId]]] = [(start, _next(tx, start, specs))]
    on_trail = {start}
    while trail and len(specs) < VISITS_MAX:
        here, left = trail[-1]
        if not left:
            trail.pop()
            on_trail.discard(here)
            done.add(here)
            continue
        step = left.pop()
        if step in on_trail:
            ids = [id for id, _ in trail]
            return [*ids[ids.index(step) :], step]
        if step not in done:
            trail.append((step, _next(tx, step, specs)))
            on_trail.add(step)
    return []


def _next(tx: Transaction, id: ObjectId, specs: dict[ObjectId, ObjectSpec | None]) -> list[ObjectId]:
    if id not in specs:
        found = tx.find(id.kind, id.namespace, id.name)
        specs[id] = found.row.spec if found else None
    return dependencies(specs, id)


def dependencies(specs: Mapping[ObjectId, ObjectSpec | None], id: ObjectId) -> list[ObjectId]:
    spec = specs[id]
    if not isinstance(spec, ServiceSpec | JobSpec):
        return []
    return [ObjectId(d.kind, id.namespace, d.name) for d in spec.depends_on]
