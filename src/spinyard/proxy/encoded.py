"""PURE. Clusters, their endpoints and routes as bytes. What did not change is not encoded again: one endpoint more
among hundreds costs one endpoint, and another weight of a boundary with hundreds of routes costs one weight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from spinyard.core.want import EndpointWant, RouteWant
from spinyard.proxy import proto, translate, translate_boundaries
from spinyard.proxy.translate_boundaries import Alias

ENDPOINTS_KEPT = 20_000
CLUSTERS_KEPT = 2_000
PARTS_KEPT = 20_000
# Field numbers of ClusterLoadAssignment and of its LocalityLbEndpoints.
CLUSTER_NAME, ENDPOINTS, LB_ENDPOINTS = 1, 2, 2
# Of VirtualHost.
ROUTES = 3
ACTION = "route"


@lru_cache(CLUSTERS_KEPT)
def cluster(settings: RouteWant) -> bytes:
    return proto.encode("envoy.config.cluster.v3.Cluster", translate.cluster(settings))


@lru_cache(CLUSTERS_KEPT)
def alias(settings: Alias) -> bytes:
    return proto.encode("envoy.config.cluster.v3.Cluster", translate_boundaries.cluster(settings))


def assignment(cluster_name: str, endpoints: Iterable[EndpointWant]) -> bytes:
    """The bytes of `translate.assignment`."""
    locality = b"".join(_lb_endpoint(want) for want in translate.in_order(endpoints))
    return proto.field(CLUSTER_NAME, cluster_name.encode()) + proto.field(ENDPOINTS, locality)


def virtual_host(host: Mapping[str, Any]) -> bytes:
    """Of `translate_routes.virtual_host`. A message in parts, each with some of its fields, is read as the whole: also
    the action of a route, which comes as often as it has fields."""
    routes = (b"".join(_parts(route)) for route in host["routes"])
    head = {name: value for name, value in host.items() if name != "routes"}
    return proto.encode("envoy.config.route.v3.VirtualHost", head) + b"".join(
        proto.field(ROUTES, body) for body in routes
    )


def _parts(route: Mapping[str, Any]) -> Iterator[bytes]:
    for name, value in route.items():
        fields = value.items() if name == ACTION else ()
        for part in ({name: {inner: inner_value}} for inner, inner_value in fields):
            yield _part(msgspec.json.encode(part))
        if not fields:
            yield _part(msgspec.json.encode({name: value}))


@lru_cache(PARTS_KEPT)
def _part(some_fields: bytes) -> bytes:
    return proto.encode("envoy.config.route.v3.Route", msgspec.json.decode(some_fields))


@lru_cache(ENDPOINTS_KEPT)
def _lb_endpoint(want: EndpointWant) -> bytes:
    body = proto.encode("envoy.config.endpoint.v3.LbEndpoint", translate.lb_endpoint(want))
    return proto.field(LB_ENDPOINTS, body)
