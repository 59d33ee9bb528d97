"""PURE. Wants checked before Envoy sees them, and what Envoy says turned into facts."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf import json_format

from spinyard.core.observed import EndpointFacts
from spinyard.core.want import BoundaryWant, EndpointState, EndpointWant, RouteWant, boundary_cluster
from spinyard.errors import ProviderFailure
from spinyard.proxy import (
    proto,
    translate,
    translate_boundaries,
    translate_force,
    translate_paths,
    translate_routes,
    translate_sides,
)
from spinyard.proxy.stats import Reading
from spinyard.proxy.translate_boundaries import Boundary
from spinyard.proxy.wishes import Told, clusters_of, settings_of

CLUSTER_NAME_MAX = 200
# Envoy confirms on its main thread, its workers follow within a moment: a request may still be given to a draining
# endpoint just after. Idle is believed only from a reading that began this long after the confirmation.
WORKERS_FOLLOW_SECONDS = 0.01


def endpoint_facts(want: EndpointWant, reading: Reading, confirmed_at: float, clusters: Iterable[str]) -> EndpointFacts:
    """`clusters`: all that have this endpoint."""
    host = reading.shared_host(clusters, (want.address, want.port))
    if host is None:
        return EndpointFacts(acknowledged=True, state=want.state)
    active = host.active_requests
    if want.state == EndpointState.DRAINING and reading.started_at < confirmed_at + WORKERS_FOLLOW_SECONDS:
        active = max(active, 1)
    return EndpointFacts(acknowledged=True, healthy=host.healthy, active_requests=active, state=want.state)


def check(want: Told) -> None:
    """What Envoy would refuse together with its neighbours is refused here alone."""
    if isinstance(want, BoundaryWant):
        if wrong := _boundary_problems(want):
            raise ProviderFailure("; ".join(wrong), retryable=False, next_step="Correct it in the spinout.")
        return
    if not all(0 < len(name) <= CLUSTER_NAME_MAX for name in clusters_of(want)):
        raise ProviderFailure("A cluster name has 1 to 200 characters.", retryable=False)
    problems: list[str] = []
    if isinstance(want, EndpointWant):
        if not translate.is_address(want.address):
            problems.append(f"{want.address!r} is not an IP address")
        if not 0 < want.port < 65536 or not 0 <= want.probe_port < 65536:
            problems.append(f"{want.port} is not a port")
    else:
        problems += [problem for host in want.hosts if (problem := translate_routes.host_problem(host))]
        found = [translate_routes.prefix_problem(want.path_prefix), translate_sides.split_problem(want)]
        problems += [problem for problem in found if problem]
    if not problems and isinstance(want, RouteWant):
        problems += _unencodable(want)
    if problems:
        raise ProviderFailure("; ".join(problems), retryable=False, next_step="Correct it in the service's route.")


def _boundary_problems(want: BoundaryWant) -> list[str]:
    longest = boundary_cluster(want.cluster, translate_boundaries.FORCED_NEW)
    if not want.cluster or len(longest) > CLUSTER_NAME_MAX:
        return ["a cluster name has 1 to 200 characters"]
    if not want.parent or not want.unit or want.parent == want.unit:
        return ["a boundary has a parent and a unit, two Services"]
    if not 0 < len(want.rules) <= translate_paths.RULES_MAX:
        return [f"a boundary has 1 to {translate_paths.RULES_MAX} rules"]
    found = [
        *(translate_paths.rule_problem(rule) for rule in want.rules),
        *(translate_sides.weight_problem(weight) for weight in (want.weight, want.mirror)),
        translate_sides.sticky_problem(want.sticky),
        translate_routes.host_problem(want.host) if want.host else "",
        f"{want.host} is not one host name" if "*" in want.host else "",
        translate_force.jwks_problem(want.jwks),
    ]
    problems = [problem for problem in found if problem]
    return problems or _boundary_unencodable(want)


def _boundary_unencodable(want: BoundaryWant) -> list[str]:
    sample = Boundary(want, RouteWant(cluster="parent"), RouteWant(cluster="unit"), has_comparator=True)
    routes = [*translate_boundaries.routes(sample), *translate_boundaries.host_routes(sample)]
    try:
        host = {"name": "sample", "domains": ["sample"], "routes": routes}
        proto.encode("envoy.config.route.v3.VirtualHost", host)
        for alias in sample.aliases():
            proto.encode("envoy.config.cluster.v3.Cluster", translate_boundaries.cluster(alias))
    except (json_format.ParseError, ValueError, TypeError) as error:
        return [f"the boundary {want.cluster!r} cannot be told to Envoy: {error}"]
    return []


def _unencodable(want: RouteWant) -> list[str]:
    """Numbers and texts that no protobuf message can carry: found here, or they would stop a whole update."""
    try:
        for settings in settings_of(want):
            proto.encode("envoy.config.cluster.v3.Cluster", translate.cluster(settings))
        proto.encode("envoy.config.route.v3.VirtualHost", translate_routes.virtual_host("*", {"*": [want]}))
    except (json_format.ParseError, ValueError, TypeError) as error:
        return [f"the route of {want.cluster} cannot be told to Envoy: {error}"]
    return []


def describe(want: Told) -> str:
    if isinstance(want, BoundaryWant):
        return f"boundary of {want.parent}, {want.weight / 100:g} % to {want.unit}"
    if isinstance(want, RouteWant):
        split = f", {want.split.weight / 100:g} % to {want.split.cluster}" if want.split is not None else ""
        return f"route {', '.join(want.hosts)}{want.path_prefix} to {want.cluster}{split}"
    return f"endpoint {want.address}:{want.port} of {want.cluster}, {want.state}"
