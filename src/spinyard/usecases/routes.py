"""One host and path prefix leads to one Service or WarmPool: of two, the gateway takes the first in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spinyard.core.spec import Kind, ObjectSpec, ServiceSpec, WarmPoolSpec
from spinyard.ports.store import Transaction
from spinyard.usecases.declared import Declared, ObjectId
from spinyard.usecases.refusals import every

Address = tuple[str, str]


def taken_routes(tx: Transaction, declared: Sequence[Declared]) -> list[tuple[ObjectId, Address, ObjectId]]:
    """(who asks, host and prefix, who has it), in the end. Reads all of them: for plans only."""
    holders: dict[Address, ObjectId] = {}
    own = {one.id for one in declared}
    for kind in (Kind.SERVICE, Kind.WARM_POOL):
        for found in every(tx, kind):
            id = ObjectId(kind, found.row.namespace, found.row.name)
            if id not in own and found.row.delete_at is None:
                holders |= dict.fromkeys(addresses(found.row.spec), id)
    out = []
    for one in declared:
        for address in addresses(one.spec):
            holder = holders.setdefault(address, one.id)
            if holder != one.id:
                out.append((one.id, address, holder))
    return out


def addresses(spec: ObjectSpec) -> Iterator[Address]:
    if isinstance(spec, WarmPoolSpec) and spec.host_suffix:
        yield f"*.{spec.host_suffix}", "/"
    route = spec.route if isinstance(spec, ServiceSpec) else None
    if route is not None:
        yield from ((host, route.path_prefix) for host in route.hosts)
