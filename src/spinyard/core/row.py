"""One object as the engine holds it while it has the lease."""

from __future__ import annotations

from dataclasses import dataclass

from spinyard.core.ids import Digest, Uid
from spinyard.core.plan import Reservation, Resource
from spinyard.core.spec import Kind, ObjectSpec, TemplateSpec


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """`generation` counts changes of the spec, `resource_version` every change, `wake_seq` every request for attention.

    `lease_token` is the fencing token: it rises with each claim, and every write of the holder carries it.
    `delete_at` is when the deletion was asked for (not scheduled); `force` asks to let go of what cannot be removed.
    """

    uid: Uid
    kind: Kind
    namespace: str
    name: str
    spec: ObjectSpec
    status: bytes
    state: str
    created_at: float
    generation: int = 1
    resource_version: int = 1
    wake_seq: int = 0
    lease_token: int = 0
    lease_until: float = 0.0
    owner_uid: Uid | None = None
    slot: str = ""
    template_digest: Digest = Digest("")
    template: TemplateSpec | None = None
    delete_at: float | None = None
    force: bool = False
    paused: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    resources: tuple[Resource, ...] = ()
    """ledger rows that are not closed"""
    reservations: tuple[Reservation, ...] = ()
    outcome: str = ""
    failed_at: float | None = None
    served_at: float | None = None
