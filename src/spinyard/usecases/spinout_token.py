"""A token by which a tester chooses the side of a running Spinout, for a short time. Each one is recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spinyard.errors import Conflict, SystemFailure
from spinyard.ports.store import StoredObject, Transaction
from spinyard.usecases.change import Caller
from spinyard.usecases.forced_side import HEADER, mint_token, public_keys
from spinyard.usecases.spinout_record import record
from spinyard.usecases.spinouts import find_spinout, goes_back, is_over, runs, spinout_id, spinout_over, spinout_spec


@dataclass(frozen=True, slots=True)
class SideToken:
    """Sent in `header`. It is nowhere stored."""

    token: str
    header: str
    side: str
    expires_at: float


def make_token(side: str, namespace: str, name: str, *, private_key: str, now: float, seconds: float) -> SideToken:
    """Raises InvalidInput (invalid_side, invalid_lifetime), SystemFailure when this server has no key."""
    if not private_key:
        raise SystemFailure(
            "This server has no key for tokens of spinouts.",
            code="no_side_key",
            next_step="Ask the server that runs on the machine of the gateway.",
        )
    token = mint_token(private_key, namespace=namespace, name=name, side=side, now=now, seconds=seconds)
    return SideToken(token, HEADER, side, now + seconds)


def hand_out(tx: Transaction, namespace: str, name: str, caller: Caller, given: SideToken, key: str) -> StoredObject:
    """The gateway learns the public key with the first one. Raises NotFound, Conflict."""
    found = find_spinout(tx, namespace, name)
    if is_over(found):
        raise spinout_over(found, "force")
    if not runs(found) or goes_back(found):
        raise Conflict(
            f"{spinout_id(found)} is {found.row.state}: there is no side to choose.",
            code="not_started",
            next_step=f"`spinyard spinout start {name} -n {namespace}`",
            details={"state": found.row.state},
        )
    spec, public = spinout_spec(found), public_keys(key)
    if spec.jwks != public:
        found = tx.update(
            found.row.uid,
            actor=caller.actor,
            why=f"Testers may choose a side, asked for by {caller.actor}.",
            reason="TokenKeySet",
            spec=replace(spec, jwks=public),
        )
    record(tx, found, "verb", caller.actor, verb="token", side=given.side, expiresAt=given.expires_at)
    return found


def was_given(namespace: str, name: str) -> Conflict:
    """A request that is repeated: its token was recorded, and is stored nowhere."""
    return Conflict(
        f"A token of Spinout {namespace}/{name} was made for this Idempotency-Key already, and is nowhere stored.",
        code="token_was_given",
        next_step="Ask with another key, or without one: each token is recorded.",
    )
