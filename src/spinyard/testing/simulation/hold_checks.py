"""What must always hold while a person has put off what happens by itself: a parent starts no more than it lacked when
it first looked under the hold, as long as nobody wishes for anything else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from spinyard.core.holds import scopes_over
from spinyard.core.observed import Children, LookChildren, Seen
from spinyard.core.plan import CreateChild, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import HoldSpec, Kind, ServiceSpec, WarmPoolSpec
from spinyard.ports.store import Commit, CommitResult, Committed
from spinyard.testing.simulation.stage import Stage

ALIVE = frozenset({"pending", "planned", "provisioning", "bootstrapping", "warm", "registering", "ready", "serving"})
Stretch = tuple[object, ...]


class HoldChecks:
    """`side_of`: of an instance's cluster."""

    def __init__(self, sim: Stage, side_of: Callable[[str], str]) -> None:
        self._sim = sim
        self._side_of = side_of
        self._looked: dict[tuple[str, str], float] = {}
        self._left: dict[tuple[str, str], tuple[Stretch, int]] = {}

    @property
    def _is_on(self) -> bool:
        return bool(self._sim.users.rollouts.holds)

    def looking(self, plane: Any, row: ObjectRow) -> None:
        self._looked[plane.holder, row.uid] = self._sim.loop_time

    def key(self, plane: Any, row: ObjectRow, *more: tuple[Kind, str]) -> Stretch | None:
        """Of the stretch in which it has been held since it last began to look; None: it was not."""
        scopes: tuple[str, ...] = scopes_over(row.namespace, row.kind, row.name)
        for kind, name in more:
            scopes += scopes_over(row.namespace, kind, name)
        since = self._looked.get((plane.holder, row.uid), -1.0)
        held: Stretch | None = self._sim.users.rollouts.held(scopes, since)
        return held

    def decided(self, plane: Any, row: ObjectRow, seen: Seen, plan: Plan) -> None:
        if not self._is_on:
            return
        held = self.key(plane, row)
        children = seen.answers.get(LookChildren(row.uid))
        if held is None or not isinstance(children, Children):
            return
        for digest, side, wanted in _crews(row, plan):
            stretch = (row.generation, side, *held)
            known = self._left.get((row.uid, digest))
            if known is None or known[0] != stretch:
                self._left[row.uid, digest] = (stretch, max(0, wanted - self._alive(children, digest, side)))
                self._sim.reached(f"held:{row.kind}")

    def committed(self, plane: Any, batch: Sequence[Commit], results: Sequence[CommitResult]) -> None:
        if not self._is_on:
            return
        for commit, result in zip(batch, results, strict=True):
            row = commit.row
            if isinstance(row.spec, HoldSpec) and commit.plan.finished and isinstance(result, Committed):
                # What has ended stays so, though a clock that goes back lets its time begin again.
                self._sim.users.rollouts.holds.pop(row.spec.scope, None)
            made = [change for change in commit.plan.children if isinstance(change, CreateChild)]
            if not made or not isinstance(result, Committed):
                continue
            held = self.key(plane, row)
            for digest, side, _ in _crews(row, commit.plan) if held is not None else ():
                stretch, left = self._left.get((row.uid, digest), ((), 0))
                if stretch == (row.generation, side, *(held or ())):
                    left -= sum(1 for change in made if change.template_digest == digest)
                    self._left[row.uid, digest] = (stretch, left)
                    if left < 0:
                        self._sim.broken("started more by itself although it is held", f"{row.kind} {row.name}")

    def _alive(self, children: Children, digest: str, side: str | None) -> int:
        return sum(
            1
            for group in children.groups
            if group.state in ALIVE and not group.deleting and group.template_digest == digest
            for child in group.oldest
            if side is None or self._side_of(child.uid) == side
        )


def _crews(row: ObjectRow, plan: Plan) -> list[tuple[str, str | None, int]]:
    """(template, side, number)."""
    match row.spec:
        case ServiceSpec(strategy=strategy) as spec if strategy is not None:
            part = spec.rollout
            out: list[tuple[str, str | None, int]] = [(spec.template_digest, spec.side, spec.replicas)]
            return out + ([(part.template_digest, part.side, part.replicas)] if part is not None else [])
        case WarmPoolSpec() as pool:
            return [(pool.template_digest, None, int(json.loads(plan.status).get("min", 0)))]
        case _:
            return []
