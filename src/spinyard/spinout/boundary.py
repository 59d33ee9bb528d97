"""From what a Spinout asks for to what the data plane is told: which requests may move, and how many of them do."""

from __future__ import annotations

from spinyard.core.ids import Uid
from spinyard.core.spec import Route
from spinyard.core.spinout import BoundaryRoute, SpinoutSpec
from spinyard.core.want import BoundaryRule, BoundaryWant
from spinyard.spinout.status import spinout_cluster
from spinyard_sdk.wire import boundary_host


def boundary_want(spec: SpinoutSpec, namespace: str, name: str, uid: Uid, *, weight: int, mirror: int) -> BoundaryWant:
    return BoundaryWant(
        cluster=spinout_cluster(namespace, name, uid),
        parent=f"{namespace}/{spec.parent}",
        unit=f"{namespace}/{spec.unit}",
        rules=tuple(
            BoundaryRule(
                path=route.path, method=route.method, weighted=may_move(spec, route), mirrored=may_copy(spec, route)
            )
            for route in spec.routes
        ),
        weight=weight,
        mirror=mirror,
        sticky=spec.key,
        host=boundary_host(namespace, name),
        jwks=spec.jwks,
    )


def may_move(spec: SpinoutSpec, route: BoundaryRoute) -> bool:
    """What writes stays with the parent, unless the unit hands writes to it."""
    return route.is_safe or spec.forward_to_owner


def may_copy(spec: SpinoutSpec, route: BoundaryRoute) -> bool:
    """Never what is not safe: the copy would write a second time. An answer to OPTIONS tells nothing to compare."""
    return spec.shadow.enabled and spec.shadow.share > 0 and route.is_safe and route.method != "OPTIONS"


def has_moving(spec: SpinoutSpec) -> bool:
    return any(may_move(spec, route) for route in spec.routes)


def is_shadowed(spec: SpinoutSpec) -> bool:
    return any(may_copy(spec, route) for route in spec.routes)


def not_covered(spec: SpinoutSpec, parent: Route | None, unit: Route | None) -> str:
    """Why what moved would not be the unit's without the boundary; empty when it would. What stayed with the parent
    stays. The gateway takes the most specific host, there the longest path, of equal ones the first: so the unit needs
    each host of the parent itself, and a longer path."""
    if parent is None or unit is None:
        return f"{spec.parent if parent is None else spec.unit} has no route of its own"
    mine, theirs = {host.lower() for host in unit.hosts}, parent.path_prefix
    missing = [host for host in parent.hosts if host.lower() not in mine]
    if missing:
        return f"the route of {spec.unit} has not the host {missing[0]} of {spec.parent}"
    for route in spec.routes:
        if may_move(spec, route) and not _is_under(_fixed_part(route.path), unit.path_prefix):
            return f"the route of {spec.unit} ({unit.path_prefix}) does not cover {route.path}"
    if not _is_under(unit.path_prefix, theirs) or _is_under(theirs, unit.path_prefix):
        return f"the route of {spec.unit} ({unit.path_prefix}) is not more specific than {spec.parent}'s ({theirs})"
    return ""


def _fixed_part(path: str) -> str:
    """Up to the first part that may be anything."""
    fixed: list[str] = []
    for segment in path.split("/"):
        if segment.startswith("{") or segment == "*":
            break
        fixed.append(segment)
    return "/".join(fixed) or "/"


def _is_under(path: str, prefix: str) -> bool:
    path, whole = path.rstrip("/"), prefix.rstrip("/")
    return path == whole or path.startswith(f"{whole}/")
