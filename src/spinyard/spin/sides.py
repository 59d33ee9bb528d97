"""Names of the clusters of a Service's sides. Each side is counted by itself, so it has a cluster of its own."""

from __future__ import annotations

from spinyard.core.ids import Uid


def cluster_name(namespace: str, service: str, service_uid: str, side: str = "") -> str:
    """Named by uid, so that a Service of the same name that comes later shares nothing with this one."""
    return f"{namespace}/{service}/{service_uid[:8]}" + (f"~{side}" if side else "")


def side_of(rollout: Uid) -> str:
    return rollout[:8]
