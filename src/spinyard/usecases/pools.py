"""What is refused of WarmPools and Claims before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from spinyard.core.spec import ClaimSpec, JobSpec, Kind
from spinyard.errors import Conflict, InvalidInput, NotFound
from spinyard.ports.store import StoredObject, Transaction
from spinyard.usecases.declared import Declared, ObjectId
from spinyard.usecases.refusals import being_deleted, every, problem, raise_problems

CLAIM_OVER = frozenset({"failed", "terminating", "terminated"})


def get_pool(tx: Transaction, namespace: str, name: str) -> StoredObject:
    """Raises NotFound with the nearest name, Conflict when it is being deleted."""
    found = tx.find(Kind.WARM_POOL, namespace, name)
    if found is not None:
        if found.row.delete_at is not None:
            raise being_deleted(ObjectId(Kind.WARM_POOL, namespace, name))
        return found
    names = [pool.row.name for pool in every(tx, Kind.WARM_POOL, namespace=namespace)]
    near = get_close_matches(name, names, n=1)
    there = f"Its pools are {', '.join(names[:10])}." if names else "It has no pool: apply a WarmPool first."
    raise NotFound(
        f"There is no WarmPool {name!r} in namespace {namespace!r}.",
        next_step=f"Did you mean {near[0]}?" if near else there,
        details={"suggestion": near[0]} if near else {},
    )


def refuse_poolless(tx: Transaction, declared: Sequence[Declared]) -> None:
    """The pool of a claim or Job is there, or declared beside it. Raises InvalidInput."""
    own = {(one.namespace, one.name) for one in declared if one.kind is Kind.WARM_POOL}
    problems = []
    for index, one in enumerate(declared):
        if not isinstance(one.spec, ClaimSpec | JobSpec) or (one.namespace, one.spec.pool) in own or not one.spec.pool:
            continue
        try:
            get_pool(tx, one.namespace, one.spec.pool)
        except NotFound as error:
            why = f"{one.id}: {error.message} {error.next_step}"
            problems.append(problem(f"objects[{index}].spec.pool", "pool_not_found", why, "the name of a WarmPool"))
    raise_problems(problems)


def refuse_claimed(tx: Transaction, deletions: Sequence[StoredObject]) -> None:
    """A pool goes when nobody uses it. Raises Conflict (in_use)."""
    going = {found.row.uid for found in deletions}
    for found in deletions:
        if found.row.kind is not Kind.WARM_POOL:
            continue
        claims = tx.select(Kind.CLAIM, owner_uid=found.row.uid)
        # A claim that failed has nothing, and is kept only to be read.
        users = [c for c in claims if c.row.delete_at is None and c.row.state != "failed" and c.row.uid not in going]
        users += [job for job in _jobs_of(tx, found) if job.row.uid not in going]
        if users:
            names = [f"{c.row.kind} {c.row.name}" for c in users]
            more = " and others" if len(names) > 5 else ""
            raise Conflict(
                f"WarmPool {found.row.namespace}/{found.row.name} is used by {', '.join(names[:5])}{more}.",
                code="in_use",
                next_step="Release the claims (`spinyard release CLAIM`) and delete the Jobs first, or delete the pool "
                "with --force: what runs on its members is ended.",
                details={"usedBy": [f"{c.row.kind}/{c.row.namespace}/{c.row.name}" for c in users[:20]]},
            )


def _jobs_of(tx: Transaction, pool: StoredObject) -> list[StoredObject]:
    """Jobs that run on its members, or wait for one."""
    return [
        job
        for job in every(tx, Kind.JOB, namespace=pool.row.namespace)
        if isinstance(job.row.spec, JobSpec)
        and job.row.spec.pool_uid == pool.row.uid
        and job.row.delete_at is None
        and job.row.state in ("pending", "running")
    ]


def with_pool(tx: Transaction, namespace: str, spec: JobSpec) -> JobSpec:
    """With the pool that its name means now. Raises NotFound, Conflict."""
    return replace(spec, pool_uid=get_pool(tx, namespace, spec.pool).row.uid) if spec.pool else spec


def same_pool(spec: JobSpec, before: StoredObject) -> JobSpec:
    """A Job that is declared once more keeps the pool it has."""
    old = before.row.spec
    assert isinstance(old, JobSpec)
    return replace(spec, pool_uid=old.pool_uid) if spec.pool and spec.pool == old.pool else spec


def claim_again(id: ObjectId, spec: ClaimSpec, before: StoredObject, now: float) -> ClaimSpec:
    """The spec of a claim that is declared once more: only its time, and who answers for it, may change."""
    old = before.row.spec
    assert isinstance(old, ClaimSpec)
    kept = replace(old, owner=spec.owner, ttl_seconds=spec.ttl_seconds)
    if replace(kept, wait_seconds=spec.wait_seconds, pool=spec.pool, env=spec.env, files=spec.files) != replace(
        kept, wait_seconds=spec.wait_seconds
    ):
        raise Conflict(
            f"{id} has its member already: pool, env and files of a claim cannot change.",
            code="claim_fixed",
            next_step=f"Release it (`spinyard release {id.name} -n {id.namespace}`), or claim under another name.",
        )
    if spec.ttl_seconds == old.ttl_seconds:
        return kept
    return replace(kept, expires_at=expiry(spec.ttl_seconds, now))


def expiry(ttl_seconds: float | None, now: float) -> float | None:
    """Raises InvalidInput for a time that is over before it begins."""
    if ttl_seconds is None:
        return None
    if ttl_seconds <= 0:
        raise InvalidInput(
            f"ttl must be more than 0, not {ttl_seconds:g}.",
            next_step="Write it as 90s or 10m; leave it out for never.",
        )
    return now + ttl_seconds
