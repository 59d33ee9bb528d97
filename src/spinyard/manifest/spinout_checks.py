"""What concerns several fields of a Spinout. Puts up with anything of a wrong type, as `checks` does."""

from __future__ import annotations

from itertools import combinations, pairwise

from spinyard.core.spinout import BoundaryRoute
from spinyard.manifest.checks import Raw, exactly_one, is_mapping, mappings, text_of, unique
from spinyard.manifest.report import Path, Report
from spinyard.manifest.scalars import Bad, plain_number
from spinyard.manifest.spinout_shapes import route_of_text, route_path
from spinyard.spinout.routes import overlap, route_text

_KEYS = ("header", "cookie", "clientAddress")


def check_spinout(raw: Raw, report: Report) -> None:
    spec = raw.get("spec")
    if not is_mapping(spec):
        return
    parent, unit = text_of(spec, "parent"), text_of(spec, "unit")
    if parent is not None and parent == unit:
        message = f"{unit} is the parent as well: there are not two programs"
        report.add(
            ("spec", "unit"), "same_service", message, "another Service", "write a Service of its own for the unit"
        )
    boundary = spec.get("boundary")
    if is_mapping(boundary):
        _check_routes(boundary, report)
    key = spec.get("key")
    if is_mapping(key):
        _check_key(key, report)
    _check_steps(spec, report)
    gates = spec.get("gates")
    if is_mapping(gates):
        _check_latency(gates, report)
        _check_thresholds(gates, report)
    contract = spec.get("contract")
    if is_mapping(contract):
        _check_contract(contract, report)


def _check_routes(boundary: Raw, report: Report) -> None:
    at: Path = ("spec", "boundary", "routes")
    known = [(index, route) for index, item in _items(boundary) if (route := _route(item)) is not None]
    for (_, one), (index, other) in combinations(known, 2):
        if overlap(one, other):
            message = f"{route_text(other)} and {route_text(one)} have requests in common"
            report.add((*at, index), "overlapping_routes", message, "routes of which each request has one")
    routes = boundary.get("routes")
    if not known or not isinstance(routes, list) or len(known) != len(routes):
        return
    if boundary.get("forwardToOwner") is not True and not any(route.is_safe for _, route in known):
        message = (
            "all routes write, and what writes gets no weight: entities with a data stage come with a later version"
        )
        hint = "let the unit hand writes to the parent and say forwardToOwner: true, or add a route that reads"
        report.add(at, "nothing_to_move", message, "a route that only reads", hint, at_key=True)


def _items(boundary: Raw) -> list[tuple[int, object]]:
    routes = boundary.get("routes")
    return list(enumerate(routes)) if isinstance(routes, list) else []


def _route(item: object) -> BoundaryRoute | None:
    """None: not right in itself, which the shapes tell."""
    try:
        given = route_of_text(item)
        path = text_of(given, "path") if is_mapping(given) else None
        if not is_mapping(given) or path is None or not path.startswith("/"):
            return None
        writes = given.get("writes")
        entities = tuple(map(str, writes)) if isinstance(writes, list) else ()
        return BoundaryRoute(route_path(path), text_of(given, "method") or "", entities)
    except Bad:
        return None


def _check_key(key: Raw, report: Report) -> None:
    at: Path = ("spec", "key")
    if set(key) <= {"noKey"} and key.get("noKey") == "any":
        return
    exactly_one(key, _KEYS, at, report)
    if "clientAddress" in key and "noKey" in key:
        report.add((*at, "noKey"), "one_of", "every request has an address", "no noKey", at_key=True)


def _check_steps(spec: Raw, report: Report) -> None:
    at: Path = ("spec", "steps")
    steps = spec.get("steps")
    known = [
        (index, weight)
        for index, step in mappings(spec, "steps")
        if (weight := _number(step.get("weight"))) is not None
    ]
    if not known or not isinstance(steps, list) or len(known) != len(steps):
        return
    for (_, before), (index, weight) in pairwise(known):
        if weight <= before:
            message = f"{plain_number(weight)} after {plain_number(before)}: weights rise"
            report.add((*at, index, "weight"), "out_of_range", message, f"more than {plain_number(before)}")
    index, last = known[-1]
    if last < 100:
        message = f"the last step has {plain_number(last)}: the parent would keep the rest"
        report.add((*at, index, "weight"), "out_of_range", message, "100", "add - {weight: 100}")


def _check_latency(gates: Raw, report: Report) -> None:
    seen: set[object] = set()
    for index, goal in mappings(gates, "latency"):
        at: Path = ("spec", "gates", "latency", index)
        plus = goal.get("plus", 0)
        if "max" not in goal and "maxRatio" not in goal and "plus" not in goal:
            message = "maxRatio, plus and max are missing"
            report.add(at, "missing_field", message, "at least one of them", "maxRatio: 1.2, plus: 20ms")
        elif goal.get("maxRatio") == 1 and plus in (0, "0s", "0ms"):
            message = "two sides that are alike could never pass"
            report.add((*at, "maxRatio"), "out_of_range", message, "more than 1, or plus beside it", "add plus: 20ms")
        quantile = _number(goal.get("quantile"))
        if quantile is not None and quantile in seen:
            message = f"quantile {plain_number(quantile)} is given twice"
            report.add((*at, "quantile"), "duplicate_name", message, "each quantile once")
        seen.add(quantile)


def _check_thresholds(gates: Raw, report: Report) -> None:
    unique(gates, "thresholds", "threshold", ("spec", "gates"), report)
    for index, threshold in mappings(gates, "thresholds"):
        exactly_one(threshold, ("max", "min"), ("spec", "gates", "thresholds", index), report)


def _check_contract(contract: Raw, report: Report) -> None:
    """A file was read and put in as text before this, where there is somebody who may read it."""
    exactly_one(contract, ("file", "text"), ("spec", "contract"), report)
    if "file" in contract:
        message = "the server reads no files of its callers"
        hint = "`spinyard apply -f` reads the file and sends its text"
        report.add(("spec", "contract", "file"), "file_not_read", message, "text: the document itself", hint)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e9 else None
