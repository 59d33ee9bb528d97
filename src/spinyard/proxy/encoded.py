"""PURE. Clusters and their endpoints as bytes. What did not change is not encoded again: one endpoint more among
hundreds costs one endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from spinyard.core.want import EndpointWant, RouteWant
from spinyard.proxy import proto, translate, translate_boundaries
from spinyard.proxy.translate_boundaries import Alias

ENDPOINTS_KEPT = 20_000
CLUSTERS_KEPT = 2_000
# Field numbers of ClusterLoadAssignment and of its LocalityLbEndpoints.
CLUSTER_NAME, ENDPOINTS, LB_ENDPOINTS = 1, 2, 2


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


@lru_cache(ENDPOINTS_KEPT)
def _lb_endpoint(want: EndpointWant) -> bytes:
    body = proto.encode("envoy.config.endpoint.v3.LbEndpoint", translate.lb_endpoint(want))
    return proto.field(LB_ENDPOINTS, body)
