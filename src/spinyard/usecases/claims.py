"""Claims: ask a WarmPool for a member.

The member is bound in the transaction that makes the claim, so that the answer says whether there was a warm one.
Nothing here reads more than the pool and the rows of this one claim: claims come by the hundred in a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from spinyard.core.ids import Uid, child_name
from spinyard.core.plan import BindMember
from spinyard.core.spec import ClaimPart, ClaimSpec, Kind, WarmPoolSpec
from spinyard.ports.store import NewObject, StoredObject, Transaction
from spinyard.spin.claim.status import ClaimState, ClaimStatus
from spinyard.spin.status import State
from spinyard.usecases.pools import expiry, get_pool


@dataclass(frozen=True, slots=True)
class NewClaim:
    """`name` "": one is made. `spec`: as it was written; what only the server knows is filled in here."""

    namespace: str
    name: str
    spec: ClaimSpec
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def claim(tx: Transaction, new: NewClaim, *, uid: Uid, actor: str) -> StoredObject:
    """Raises NotFound and Conflict about the pool, InvalidInput, Conflict (already_exists)."""
    pool = get_pool(tx, new.namespace, new.spec.pool)
    wanted = pool.row.spec
    assert isinstance(wanted, WarmPoolSpec)
    name = new.name or child_name(new.spec.pool, uid)
    spec = replace(
        new.spec,
        pool_uid=pool.row.uid,
        expires_at=expiry(new.spec.ttl_seconds, tx.now),
        host=f"{name}.{wanted.host_suffix}" if wanted.host_suffix else "",
    )
    part = ClaimPart(
        claim_uid=uid,
        claim_name=name,
        host=spec.host,
        env=spec.env,
        files=spec.files,
        on_claim=wanted.on_claim,
    )
    bind = BindMember(pool.row.uid, State.WARM, pool.row.template_digest, part)
    bound = tx.bind_member(uid, bind) is not None
    status = ClaimStatus(since=tx.now, tries=1, bound_at=tx.now)
    made = tx.insert(
        NewObject(
            uid=uid,
            kind=Kind.CLAIM,
            namespace=new.namespace,
            name=name,
            spec=spec,
            state=ClaimState.BOUND if bound else ClaimState.PENDING,
            status=msgspec.json.encode(status) if bound else b"{}",
            labels=new.labels,
            annotations=new.annotations,
            owner_uid=pool.row.uid,
            wake=not bound,  # what becomes of the member wakes it
            due_at=spec.expires_at,
        ),
        actor=actor,
        why=f"Claimed by {actor}.",
    )
    if bound:
        tx.event(uid, "Normal", "Bound", "it has a member", actor="engine")
    return made
