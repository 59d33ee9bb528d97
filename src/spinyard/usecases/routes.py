"""One host and path prefix leads to one Service: of two, the gateway takes the first in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spinyard.core.spec import Kind, ObjectSpec, ServiceSpec
from spinyard.ports.store import Transaction
from spinyard.usecases.declared import Declared, ObjectId
from spinyard.usecases.plan import every

Address = tuple[str, str]


def taken_routes(tx: Transaction, declared: Sequence[Declared]) -> list[tuple[ObjectId, Address, ObjectId]]:
    """(who asks, host and prefix, who has it), in the end. Reads every Service: for plans only."""
    holders: dict[Address, ObjectId] = {}
    own = {one.id for one in declared}
    for found in every(tx, Kind.SERVICE):
        id = ObjectId(Kind.SERVICE, found.row.namespace, found.row.name)
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
    route = spec.route if isinstance(spec, ServiceSpec) else None
    if route is not None:
        yield from ((host, route.path_prefix) for host in route.hosts)
