"""The group commit: one transaction, one commit_seq, a fixed number of statements whatever the size of the batch.

Order inside: sequence (the lock), reservations, the rows themselves, then everything that follows from a row only for
rows that were really written. What must never happen: a child, an event or a ledger row of a plan that was refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec
import sqlalchemy as sa

from spinyard.core.ids import Uid
from spinyard.core.plan import (
    BindMember,
    CreateChild,
    DeleteChild,
    EndRollout,
    Reservation,
    Resource,
    SetRollout,
    WakeChild,
)
from spinyard.core.row import ObjectRow
from spinyard.core.want import BoundaryWant, RouteWant, Want
from spinyard.ports.store import Commit, CommitResult, Committed, Refused, Stale
from spinyard.store import pools, records, rollouts
from spinyard.store.codec import Templates, json_text, label_pairs
from spinyard.store.commit_sql import FIRST_STATE, CommitStatements
from spinyard.store.dialect import Words, is_poison
from spinyard.store.link import Link
from spinyard.store.reserve import reserve
from spinyard.store.session import Sessions

_POISON = (sa.exc.SQLAlchemyError, msgspec.MsgspecError, UnicodeError, ValueError, TypeError, OverflowError)
_GOOD_OUTCOMES = frozenset(("", "Succeeded"))


class Committer:
    def __init__(self, sessions: Sessions, words: Words, templates: Templates) -> None:
        self._sessions = sessions
        self._sql = CommitStatements(words)
        self._pools = pools.PoolStatements(words)
        self._rollouts = rollouts.RolloutStatements(words)
        self._templates = templates

    def commit(self, batch: Sequence[Commit], *, now: float) -> list[CommitResult]:
        if not batch:
            return []
        try:
            with self._sessions.write() as connection:
                return self._apply(connection, batch, self._next_seq(connection), 0, now)[0]
        except _POISON as error:
            if not _is_row_fault(error):
                raise
        with self._sessions.write() as connection:
            return self._take_apart(connection, batch, self._next_seq(connection), 0, now)[0]

    def _next_seq(self, connection: Link) -> int:
        return int(connection.execute(self._sql.next_seq).scalar_one())

    def _take_apart(
        self, connection: Link, batch: Sequence[Commit], seq: int, index: int, now: float
    ) -> tuple[list[CommitResult], int]:
        """By halves, each in a savepoint, until the bad rows stand alone."""
        try:
            with connection.begin_nested():
                return self._apply(connection, batch, seq, index, now)
        except _POISON as error:
            if not _is_row_fault(error):
                raise
            if len(batch) == 1:
                return [Refused(_why_poisoned(batch[0], error))], index
        middle = len(batch) // 2
        left, index = self._take_apart(connection, batch[:middle], seq, index, now)
        right, index = self._take_apart(connection, batch[middle:], seq, index, now)
        return left + right, index

    def _apply(
        self, connection: Link, batch: Sequence[Commit], seq: int, index: int, now: float
    ) -> tuple[list[CommitResult], int]:
        """`index` is the first free event index of this commit_seq; the next free one is returned."""
        results: dict[int, CommitResult] = {}
        positions: dict[Uid, int] = {}
        for position, commit in enumerate(batch):
            if commit.row.uid in positions:
                results[position] = Stale()
            else:
                positions[commit.row.uid] = position
        reserved = self._reserve(connection, batch, positions)
        for uid, answer in reserved.items():
            if not isinstance(answer, tuple):
                results[positions.pop(uid)] = answer
        todo = [batch[positions[uid]] for uid in sorted(positions)]
        written = self._update_rows(connection, todo, seq, now)
        applied = [commit for position, commit in enumerate(batch) if commit.row.uid in written
                   and positions.get(commit.row.uid) == position]  # fmt: skip
        created, deleted = self._change_children(connection, applied, seq, now)
        told = self._change_services(connection, applied, seq, now)
        self._write_resources(connection, applied, seq, now)
        for commit in applied:
            if commit.plan.records:
                records.append(connection, commit.row.uid, commit.plan.records, actor=commit.actor, now=now)
        self._finish(connection, applied)
        self._wake_owners(connection, applied, now)
        index = self._write_events(connection, applied, created, deleted, told, seq, index, now)
        for commit in applied:
            uid = commit.row.uid
            answer = reserved.get(uid, ())
            assert isinstance(answer, tuple)
            results[positions[uid]] = Committed(row=_row_after(commit, answer, now), commit_seq=seq)
        return [results.get(position, Stale()) for position in range(len(batch))], index

    def _reserve(
        self, connection: Link, batch: Sequence[Commit], positions: dict[Uid, int]
    ) -> dict[Uid, tuple[Reservation, ...] | CommitResult]:
        """Before the rows are written, and only for those that will be: a stale plan reserves nothing."""
        asking = [c for p, c in enumerate(batch) if c.plan.requires and positions.get(c.row.uid) == p]
        if not asking:
            return {}
        rows = json_text(sorted((c.row.uid, c.row.lease_token, c.row.resource_version) for c in asking))
        fresh = {uid for (uid,) in connection.execute(self._sql.fresh, {"rows": rows}).all()}
        answers: dict[Uid, tuple[Reservation, ...] | CommitResult] = {
            c.row.uid: Stale() for c in asking if c.row.uid not in fresh
        }
        requests = [(c.row.uid, c.plan.requires) for c in asking if c.row.uid in fresh]
        for uid, answer in reserve(connection, self._sql.reserve, requests).items():
            answers[uid] = Refused(answer) if isinstance(answer, str) else answer
        return answers

    def _update_rows(self, connection: Link, todo: Sequence[Commit], seq: int, now: float) -> set[Uid]:
        written: set[Uid] = set()
        small = [_update_record(commit) for commit in todo if not _is_milestone(commit)]
        whole = [_update_record(commit) for commit in todo if _is_milestone(commit)]
        for statement, rows in ((self._sql.update_small, small), (self._sql.update, whole)):
            if rows:
                written |= connection.written(statement, rows, {"now": now, "seq": seq})
        return written

    def _change_children(
        self, connection: Link, applied: Sequence[Commit], seq: int, now: float
    ) -> tuple[set[str], dict[str, tuple[str, ...]]]:
        """Uids that were really created, and (kind, namespace, name, state) of those now really to be deleted."""
        woken = sorted({ch.uid for c in applied for ch in c.plan.children if isinstance(ch, WakeChild)})
        if woken:
            connection.execute(self._sql.wake_children, {"uids": json_text(woken), "now": now})
        new = [(c.row, change) for c in applied for change in c.plan.children if isinstance(change, CreateChild)]
        old = [(c.row, change) for c in applied for change in c.plan.children if isinstance(change, DeleteChild)]
        created: set[str] = set()
        deleted: dict[str, tuple[str, ...]] = {}
        if new:
            rows = sorted(_child_record(owner, child) for owner, child in new)
            parameters = {"rows": json_text(rows), "now": now, "seq": seq}
            created = {uid for (uid,) in connection.execute(self._sql.insert_children, parameters).all()}
            pairs = [
                {"uid": child.uid, "key": key, "value": value}
                for _, child in new
                if child.uid in created
                for key, value in child.labels
            ]
            if pairs:
                connection.execute(self._sql.insert_label, pairs)
        if old:
            rows_old = json_text(sorted({(change.uid, owner.uid, change.force) for owner, change in old}))
            parameters = {"rows": rows_old, "now": now, "seq": seq}
            for uid, *facts in connection.execute(self._sql.delete_children, parameters).all():
                deleted[uid] = tuple(facts)
        # Last: who gives up what it has in the same plan may take a member.
        self._bind_members(connection, applied, seq, now)
        return created, deleted

    def _bind_members(self, connection: Link, applied: Sequence[Commit], seq: int, now: float) -> None:
        for commit in applied:
            for change in commit.plan.children:
                if isinstance(change, BindMember):
                    bound = pools.bind(connection, self._pools, commit.row.uid, change, seq=seq, now=now)
                    if bound is not None:
                        # The pool counts one less, the claim one more: both look.
                        owners = json_text([(uid, 0, 0) for uid in sorted((change.pool, commit.row.uid))])
                        connection.execute(self._sql.wake_owners, {"rows": owners, "now": now})

    def _change_services(
        self, connection: Link, applied: Sequence[Commit], seq: int, now: float
    ) -> dict[Uid, list[rollouts.Told]]:
        """What is told of the Services that Rollouts really changed, by Rollout."""
        told: dict[Uid, list[rollouts.Told]] = {}
        for c in applied:
            for change in c.plan.children:
                if isinstance(change, SetRollout | EndRollout):
                    done = rollouts.change_service(
                        connection, self._rollouts, c.row, change, actor=c.actor, seq=seq, now=now
                    )
                    if done is not None:
                        told.setdefault(c.row.uid, []).append(done)
        return told

    def _write_resources(self, connection: Link, applied: Sequence[Commit], seq: int, now: float) -> None:
        last = {resource.key: (c.row.uid, resource) for c in applied for resource in c.plan.resources}
        if last:
            rows = [_resource_record(*last[key], now) for key in sorted(last)]
            connection.execute_rows(self._sql.upsert_resources, rows, {"seq": seq})
            if any(_misleads_old_readers(resource.stored_want) for _, resource in last.values()):
                connection.execute(self._rollouts.ask_for_2, {})

    def _finish(self, connection: Link, applied: Sequence[Commit]) -> None:
        given_back = [
            {"owner_uid": c.row.uid, "scope": held.scope, "name": held.name} for c in applied for held in c.plan.returns
        ]
        if given_back:
            connection.execute(self._sql.reserve.give_back, given_back)
        finished = sorted(c.row.uid for c in applied if c.plan.finished)
        if finished:
            connection.execute(self._sql.reserve.delete, {"uids": json_text(finished)})

    def _wake_owners(self, connection: Link, applied: Sequence[Commit], now: float) -> None:
        owners: dict[str, list[int]] = {}
        for commit in applied:
            row, plan = commit.row, commit.plan
            outcome = plan.outcome or row.outcome
            moved = plan.state != row.state and not plan.unheard
            if row.owner_uid is not None and (plan.finished or moved or outcome != row.outcome):
                counts = owners.setdefault(row.owner_uid, [0, 0])
                counts[0] += plan.finished
                counts[1] += plan.finished and outcome == "Succeeded"
        if owners:
            rows = json_text([(uid, *owners[uid]) for uid in sorted(owners)])
            connection.execute(self._sql.wake_owners, {"rows": rows, "now": now})

    def _write_events(
        self,
        connection: Link,
        applied: Sequence[Commit],
        created: set[str],
        deleted: dict[str, tuple[str, ...]],
        told: dict[Uid, list[rollouts.Told]],
        seq: int,
        index: int,
        now: float,
    ) -> int:
        records: list[tuple[object, ...]] = []
        for commit in applied:
            for draft in _events_of(commit, created, deleted):
                records.append((index + len(records), *draft))
            for about_service in told.get(commit.row.uid, ()):
                records.append((index + len(records), *about_service))
        if records:
            connection.execute_rows(self._sql.insert_events, records, {"seq": seq, "at": now})
        return index + len(records)


def _misleads_old_readers(want: Want | None) -> bool:
    return isinstance(want, BoundaryWant) or (isinstance(want, RouteWant) and want.by_host)


def _is_row_fault(error: Exception) -> bool:
    return not isinstance(error, sa.exc.SQLAlchemyError) or is_poison(error)


def _why_poisoned(commit: Commit, error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    row = commit.row
    return f"the store could not write {row.kind} {row.namespace}/{row.name}: {str(cause).strip()}"


def _is_milestone(commit: Commit) -> bool:
    """It touches what happens once in a life and is indexed; all other commits go a way that leaves those indexes
    alone, which is most of the cost of an update."""
    row, plan = commit.row, commit.plan
    return (
        plan.finished
        or (plan.failed_at is not None and plan.failed_at != row.failed_at)
        or (plan.served_at is not None and plan.served_at != row.served_at)
    )


def _update_record(commit: Commit) -> tuple[object, ...]:
    row, plan = commit.row, commit.plan
    slots = [int(c.slot) for c in plan.children if isinstance(c, CreateChild) and c.slot.isdecimal()]
    return (
        row.uid,
        row.lease_token,
        row.resource_version,
        row.wake_seq,
        plan.state,
        plan.status.decode(),
        plan.reason,
        _clean(plan.why),
        plan.outcome,
        plan.failed_at,
        plan.served_at,
        plan.finished,
        plan.keep_seconds,
        commit.release,
        plan.wake_at,
        any(isinstance(c, CreateChild) for c in plan.children),
        max(slots, default=-1),
    )


def _child_record(owner: ObjectRow, child: CreateChild) -> tuple[object, ...]:
    return (
        child.uid,
        child.kind,
        owner.namespace,
        child.name,
        owner.uid,
        child.slot,
        child.template_digest,
        json_text(child.spec),
        json_text(label_pairs(child.labels)),
    )


def _resource_record(owner: Uid, resource: Resource, now: float) -> tuple[object, ...]:
    want = resource.stored_want
    return (
        resource.key,
        resource.owner or owner,
        resource.provider,
        resource.kind,
        resource.wanted,
        None if want is None else json_text(want),
        resource.gone_after_seconds,
        resource.absent_at,
        resource.closed_at,
        resource.retained,
        resource.created_at or now,
    )


def _events_of(
    commit: Commit, created: set[str], deleted: dict[str, tuple[str, ...]]
) -> Iterator[tuple[str | None, ...]]:
    """(uid, kind, namespace, name, owner, type, reason, message, actor, state) in the order they are told."""
    row, plan, actor = commit.row, commit.plan, commit.actor
    about = (row.uid, row.kind, row.namespace, row.name, row.owner_uid)
    if plan.state != row.state:
        bad = plan.outcome not in _GOOD_OUTCOMES and plan.outcome != row.outcome
        yield (*about, "Warning" if bad else "Normal", plan.reason, _clean(plan.why), actor, plan.state)
    for draft in plan.events:
        yield (*about, draft.type, draft.reason, _clean(draft.message), actor, plan.state)
    for change in plan.children:
        if isinstance(change, CreateChild):
            if change.uid in created:
                kin = (change.uid, change.kind, row.namespace, change.name, row.uid)
                yield (*kin, "Normal", "Created", f"wanted by {row.kind} {row.name}", actor, FIRST_STATE)
        elif isinstance(change, DeleteChild) and change.uid in deleted:
            kind, namespace, name, state = deleted[change.uid]
            kin_facts = (change.uid, kind, namespace, name, row.uid)
            yield (*kin_facts, "Normal", "DeletionRequested", _clean(change.why), actor, state)


def _clean(text: str) -> str:
    """A NUL comes from programs' output; Postgres cannot hold it."""
    return text.replace("\x00", "�") if "\x00" in text else text


def _row_after(commit: Commit, reserved: tuple[Reservation, ...], now: float) -> ObjectRow:
    """What the store holds now. wake_seq stays as observed, so that a wake in between is still seen at the release; so
    does lease_until, which the heartbeat knows better."""
    row, plan = commit.row, commit.plan
    held = row.reservations
    if reserved:
        merged = {(r.scope, r.name): r for r in (*held, *reserved)}
        held = tuple(merged[name] for name in sorted(merged))
    if plan.returns:
        gone = {(r.scope, r.name) for r in plan.returns}
        held = tuple(r for r in held if (r.scope, r.name) not in gone)
    # Every field by name: dataclasses.replace costs four times as much, and this runs once per row and commit.
    return ObjectRow(
        uid=row.uid,
        kind=row.kind,
        namespace=row.namespace,
        name=row.name,
        spec=row.spec,
        status=plan.status,
        state=plan.state,
        created_at=row.created_at,
        generation=row.generation,
        resource_version=row.resource_version + 1,
        wake_seq=row.wake_seq,
        lease_token=row.lease_token,
        lease_until=0.0 if plan.finished or commit.release else row.lease_until,
        owner_uid=row.owner_uid,
        slot=row.slot,
        template_digest=row.template_digest,
        template=row.template,
        delete_at=row.delete_at,
        force=row.force,
        paused=row.paused,
        labels=row.labels,
        resources=_resources_after(row, plan.resources, now) if plan.resources else row.resources,
        reservations=() if plan.finished else held,
        outcome=plan.outcome or row.outcome,
        failed_at=row.failed_at if plan.failed_at is None else plan.failed_at,
        served_at=row.served_at if plan.served_at is None else plan.served_at,
    )


def _resources_after(row: ObjectRow, written: Sequence[Resource], now: float) -> tuple[Resource, ...]:
    resources = {resource.key: resource for resource in row.resources}
    for resource in written:
        before = resources.get(resource.key)
        made_at = before.created_at if before is not None else resource.created_at or now
        if not resource.owner or resource.created_at != made_at:
            resource = replace(resource, owner=resource.owner or row.uid, created_at=made_at)
        resources[resource.key] = resource
    return tuple(resources[key] for key in sorted(resources) if resources[key].closed_at is None)
