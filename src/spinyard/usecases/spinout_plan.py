"""What a Spinout would go through: phases, requests each step needs, time, and what is refused. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Analysis, Kind, ServiceSpec
from spinyard.core.spinout import BoundaryRoute, SpinoutGates, SpinoutSpec
from spinyard.core.verdict import LatencyEvidence, QuantileGoal, QuantileLimit, judge_latency, judge_latency_alone
from spinyard.core.want import boundary_cluster
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spin.sides import cluster_name
from spinyard.spinout.boundary import is_shadowed, may_copy, may_move
from spinyard.spinout.routes import route_text
from spinyard.spinout.status import FORWARD, SpinoutState, spinout_cluster
from spinyard.usecases.rollout_plan import requests_needed
from spinyard.usecases.spinouts import (
    BY_PEOPLE,
    approved_phases,
    find_spinout,
    is_over,
    present_phase,
    runs,
    spinout_id,
    spinout_spec,
    spinout_status,
)

S = SpinoutState


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """`why`: when it stays with the parent."""

    route: str
    moves: bool
    copied: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class PlannedPhase:
    """`by`: people or engine. `is_done`: reached, or approved already."""

    phase: str
    by: str
    needs: str
    is_done: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    code: str
    message: str
    next_step: str


@dataclass(frozen=True, slots=True)
class PlannedSpinout:
    """`clusters`: whose requests are counted; of the boundary alone when `is_counted`, else all of the parent's."""

    found: StoredObject
    routes: tuple[PlannedRoute, ...]
    phases: tuple[PlannedPhase, ...]
    refused: tuple[Refusal, ...]
    clusters: tuple[str, ...]
    is_counted: bool

    @property
    def spec(self) -> SpinoutSpec:
        return spinout_spec(self.found)


@dataclass(frozen=True, slots=True)
class SpinoutStepPlan:
    """`requests`: on the unit when none fails and it is as fast as the parent, at least; None: more than foreseeable.
    `seconds` None: not known, or it never ends by itself."""

    weight: int
    hold_seconds: float
    waits_for_person: bool
    requests: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class SpinoutForecast:
    """`per_second`: requests of the boundary, or at most (`is_counted` False); None: nobody counts them. `seconds`: of
    baseline, shadowing, all steps and soaking; None: not known."""

    planned: PlannedSpinout
    per_second: float | None
    baseline_seconds: float | None
    shadow_seconds: float | None
    steps: tuple[SpinoutStepPlan, ...]
    seconds: float | None


def plan_spinout(tx: Transaction, namespace: str, name: str) -> PlannedSpinout:
    """Raises NotFound."""
    found = find_spinout(tx, namespace, name)
    spec = spinout_spec(found)
    parent = tx.find(Kind.SERVICE, namespace, spec.parent)
    is_counted = bool(spinout_status(found).serial) and not is_over(found)
    base = spinout_cluster(namespace, found.row.name, found.row.uid)
    sides = [boundary_cluster(base, side) for side in ("old", "new")]
    whole = [cluster_name(namespace, spec.parent, parent.row.uid, _side(parent))] if parent is not None else []
    return PlannedSpinout(
        found,
        tuple(_route(spec, route) for route in spec.routes),
        tuple(_phases(found)),
        tuple(_refusals(tx, found)),
        tuple(sides if is_counted else whole),
        is_counted,
    )


def forecast_spinout(planned: PlannedSpinout, per_second: float | None) -> SpinoutForecast:
    spec = planned.spec
    weights = tuple(step.weight for step in spec.steps)
    steps = []
    for step, needs in zip(spec.steps, steps_needed(spec.gates, weights), strict=True):
        seconds = _seconds(needs, step.weight, step.hold_seconds, per_second)
        steps.append(SpinoutStepPlan(step.weight, step.hold_seconds, step.wait, needs, None if step.wait else seconds))
    baseline = _seconds(spec.baseline_requests, WEIGHT_ALL, spec.baseline_seconds, per_second)
    shadow: float | None = 0.0
    if is_shadowed(spec):
        shadow = _seconds(spec.shadow.compared_min, spec.shadow.share, 0.0, per_second)
    parts = [baseline, shadow, *(step.seconds for step in steps), spec.soak_seconds]
    known = [part for part in parts if part is not None]
    total = sum(known) if len(known) == len(parts) else None
    return SpinoutForecast(planned, per_second, baseline, shadow, tuple(steps), total)


def steps_needed(gates: SpinoutGates, weights: tuple[int, ...]) -> tuple[int | None, ...]:
    """Of each step, on the unit: the most that one of its gates needs, at least."""
    success = requests_needed(Analysis(margin=gates.margin, alpha=gates.alpha), weights)
    return tuple(
        None if needs is None else max(needs, _latency_needs(gates, alone=weight >= WEIGHT_ALL))
        for needs, weight in zip(success, weights, strict=True)
    )


def _latency_needs(gates: SpinoutGates, *, alone: bool) -> int:
    limits = [QuantileLimit(g.quantile, g.max_seconds * 1000) for g in gates.latency if g.max_seconds is not None]
    compared = [
        QuantileGoal(g.quantile, (g.max_ratio or 1.0) - 1.0, g.max_seconds_more * 1000)
        for g in gates.latency
        if g.max_ratio is not None or g.max_seconds_more
    ]
    nothing = LatencyEvidence()
    found = list(judge_latency_alone(nothing, limits, alpha=gates.alpha)) if limits else []
    if compared and not alone:
        found += judge_latency(nothing, compared, alpha=gates.alpha)
    return max((one.needs or 0 for one in found), default=0)


def _route(spec: SpinoutSpec, route: BoundaryRoute) -> PlannedRoute:
    moves = may_move(spec, route)
    why = "" if moves else "it writes: a weight needs forwardToOwner, or entities with a data stage (a later version)"
    return PlannedRoute(route_text(route), moves, may_copy(spec, route), why)


def _phases(found: StoredObject) -> Iterator[PlannedPhase]:
    spec, here = spinout_spec(found), FORWARD.index(present_phase(found))
    approved = approved_phases(spec) | ({str(S.ANALYSED), str(S.DECIDED)} if spec.started else set())
    for phase in FORWARD[1:]:
        if phase is S.SHADOWING and not is_shadowed(spec):
            continue
        by_engine = phase not in BY_PEOPLE or (phase is S.CONTRACTED and bool(spec.contract))
        is_done = FORWARD.index(phase) <= here or (not by_engine and str(phase) in approved)
        yield PlannedPhase(str(phase), "engine" if by_engine else "people", _needs(spec, phase), is_done)


def _needs(spec: SpinoutSpec, phase: SpinoutState) -> str:
    match phase:
        case S.CONTRACTED if spec.contract:
            return "the contract that it has"
        case S.SCAFFOLDED:
            return f"Service {spec.unit} available"
        case S.INSTRUMENTED:
            return "the boundary known to the data plane, at weight 0"
        case S.BASELINED:
            return f"{spec.baseline_requests} requests of the parent over {spec.baseline_seconds:g} s"
        case S.SHADOWING:
            return "a start"
        case S.RAMPING if is_shadowed(spec):
            return (
                f"{spec.shadow.compared_min} answers compared, of which at most {spec.shadow.different_max:.4g} differ"
            )
        case S.RAMPING:
            return "nothing more"
        case S.SWITCHED:
            return "every step passed"
        case S.SOAKING:
            return "100 % confirmed by the data plane"
        case S.RETIRING:
            return f"{spec.soak_seconds:g} s without a breach"
        case _:
            return "evidence: `spinyard spinout approve`"


def _refusals(tx: Transaction, found: StoredObject) -> Iterator[Refusal]:
    row, spec, id = found.row, spinout_spec(found), spinout_id(found)
    if is_over(found):
        yield Refusal("spinout_over", f"{id} is {row.state}: it does not begin again.", "Apply one of another name.")
        return
    for part, name in (("parent", spec.parent), ("unit", spec.unit)):
        service = tx.find(Kind.SERVICE, row.namespace, name)
        if service is None or service.row.delete_at is not None:
            yield Refusal("service_not_found", f"Its {part}, Service {name}, is not there.", "Apply that Service.")
        elif isinstance(service.row.spec, ServiceSpec) and service.row.spec.route is None:
            yield Refusal("no_route", f"Its {part}, Service {name}, has no route.", "Give it spec.route.")
    for route in spec.routes:
        if not may_move(spec, route):
            yield Refusal(
                "route_writes",
                f"{route_text(route)} stays with {spec.parent}: it writes, and its entities have no data stage.",
                "Say forwardToOwner: true if the unit hands writes to the parent; entities come with a later version.",
            )
    if runs(found) and row.paused:
        words = f"{row.name} -n {row.namespace}"
        yield Refusal("held", f"{id} is held by a person.", f"`spinyard spinout resume {words}` lets it go on.")


def _side(service: StoredObject) -> str:
    spec = service.row.spec
    return spec.side if isinstance(spec, ServiceSpec) else ""


def _seconds(requests: int | None, weight: int, hold: float, per_second: float | None) -> float | None:
    if requests == 0:
        return hold
    if requests is None or not per_second:
        return None
    return max(hold, requests / (per_second * weight / WEIGHT_ALL))
