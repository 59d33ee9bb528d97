"""The store: ports.store.Store over SQL. Each method is one transaction; the work is in the modules beside this one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import ModuleType
from typing import TypeVar

import sqlalchemy as sa

from spinyard.core.chain import Record
from spinyard.core.ids import Digest, ResourceKey, Uid
from spinyard.core.observed import Children, Held, ObjectBrief, Peer, PoolView, Starts, Unknown
from spinyard.core.plan import Resource
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind
from spinyard.errors import Conflict
from spinyard.ports.store import Commit, CommitResult, Lease, StoredEvent, Transaction
from spinyard.store import holds, pools, prune, records, rollouts, starts, views
from spinyard.store import leases as lease_rows
from spinyard.store.codec import Templates, json_text
from spinyard.store.commit import Committer
from spinyard.store.dialect import is_poison, open_database
from spinyard.store.link import Link
from spinyard.store.migrate import prepare
from spinyard.store.session import Sessions
from spinyard.store.transaction import SqlTransaction

T = TypeVar("T")

DRIVEN: Mapping[str, frozenset[str] | None] = dict.fromkeys(
    (Kind.SERVICE, Kind.SPIN, Kind.JOB, Kind.WARM_POOL, Kind.CLAIM, Kind.ROLLOUT, Kind.SPINOUT, Kind.HOLD)
)


class SqlStore:
    """`target`: a path, `:memory:`, or a Postgres URL. `new_id` names the installation at the first open.

    `kinds`: what this code drives, each with the states it knows (None: all). Rows of other kinds or states, and rows
    with parts this code cannot decode, are left alone. `module` is another DB-API for SQLite (tests).
    """

    def __init__(
        self,
        target: str,
        *,
        new_id: Callable[[], str],
        kinds: Mapping[str, Collection[str] | None] = DRIVEN,
        module: ModuleType | None = None,
    ) -> None:
        database = open_database(str(target), module=module)
        self._sessions = Sessions(database)
        try:
            self._installation = prepare(self._sessions, new_id)
        except BaseException:
            self._sessions.close()
            raise
        words = database.words
        self._driven = frozenset(str(kind) for kind in kinds)
        known = {str(kind): None if states is None else frozenset(states) for kind, states in kinds.items()}
        self._templates = Templates()
        self._leases = lease_rows.LeaseStatements(words, lease_rows.known_condition(known))
        self._views = views.ViewStatements(words)
        self._pools = pools.PoolStatements(words)
        self._rollouts = rollouts.RolloutStatements(words)
        self._prune = prune.PruneStatements(words)
        self._committer = Committer(self._sessions, words, self._templates)

    # -- engine --------------------------------------------------------------------------------------------------------

    def claim(self, *, holder: str, now: float, lease_seconds: float, limit: int) -> Sequence[ObjectRow]:
        with self._sessions.write(queue=False) as connection:
            return lease_rows.claim(
                connection,
                self._leases,
                self._templates,
                holder=holder,
                now=float(now),
                lease_seconds=lease_seconds,
                limit=limit,
            )

    def extend(self, leases: Sequence[Lease], *, until: float) -> Sequence[Lease]:
        if not leases:
            return []
        with self._sessions.write() as connection:
            return lease_rows.extend(connection, self._leases, leases, until=float(until))

    def reload(self, lease: Lease, known: ObjectRow | None = None) -> ObjectRow | None:
        with self._sessions.read() as connection:
            if known is not None and lease_rows.is_unchanged(connection, self._leases, lease, known):
                return known
            records = connection.execute(self._leases.reload, {"uid": lease.uid, "token": lease.token}).all()
            return next(iter(lease_rows.load_rows(connection, self._leases, self._templates, records)), None)

    def release(self, leases: Sequence[tuple[Lease, int, float | None]], *, now: float) -> None:
        if leases:
            with self._sessions.write() as connection:
                lease_rows.release(connection, self._leases, leases, now=float(now))

    def commit(self, batch: Sequence[Commit], *, now: float) -> Sequence[CommitResult]:
        return self._committer.commit(batch, now=float(now))

    def wake(self, uids: Sequence[Uid], *, now: float) -> None:
        if uids:
            with self._sessions.write() as connection:
                connection.execute(self._leases.wake, {"uids": json_text(sorted(set(uids))), "now": float(now)})

    def catch_up(self, *, now: float) -> None:
        with self._sessions.write() as connection:
            connection.execute(self._leases.not_in_the_future, {"now": float(now)})
            connection.execute(self._leases.catch_up, {"now": float(now)})

    def children(self, owner: Uid) -> Children:
        with self._sessions.read() as connection:
            return views.children(connection, self._views, owner)

    def brief(self, kind: Kind, namespace: str, name: str) -> ObjectBrief | None:
        with self._sessions.read() as connection:
            return views.brief(connection, self._views, kind, namespace, name)

    def pool(self, uid: Uid, *, warm_state: str) -> PoolView | None:
        with self._sessions.read() as connection:
            return pools.pool(connection, self._pools, uid, warm_state)

    def peer(self, uid: Uid) -> Peer | Unknown | None:
        with self._sessions.read() as connection:
            return rollouts.peer(connection, self._rollouts, uid)

    def held(self, namespace: str, kind: Kind, name: str, *, now: float) -> Held | None:
        with self._sessions.read() as connection:
            return holds.held(connection, namespace, kind, name, now)

    def starts(self, template_digest: Digest, scope: str, *, limit: int) -> Starts:
        with self._sessions.read() as connection:
            return starts.starts(connection, template_digest, scope, limit)

    def next_due(self, *, now: float) -> float | None:
        with self._sessions.read() as connection:
            due: float | None = connection.execute(self._leases.next_due, {"now": float(now)}).scalar_one_or_none()
            return due

    # -- sweep and data plane ------------------------------------------------------------------------------------------

    def resources(self, keys: Sequence[ResourceKey]) -> Mapping[ResourceKey, Resource]:
        with self._sessions.read() as connection:
            return views.resources(connection, self._views, keys)

    def open_resources(self, *, provider: str | None = None, after: str = "", limit: int = 1000) -> Sequence[Resource]:
        with self._sessions.read() as connection:
            return views.open_resources(connection, self._views, provider, after, limit)

    def open_keys(
        self, *, provider: str, after: str = "", limit: int = 5000
    ) -> Sequence[tuple[ResourceKey, bool, float]]:
        with self._sessions.read() as connection:
            return views.open_keys(connection, self._views, provider, after, limit)

    # -- use cases -----------------------------------------------------------------------------------------------------

    def transact(self, work: Callable[[Transaction], T], *, now: float) -> T:
        return self.transact_many([work], now=now)[0]

    def transact_many(self, works: Sequence[Callable[[Transaction], T]], *, now: float) -> Sequence[T]:
        try:
            with self._sessions.write() as connection:
                return [work(self._transaction(connection, now, writable=True)) for work in works]
        except sa.exc.SQLAlchemyError as error:
            if not is_poison(error):
                raise
            raise Conflict(
                f"the store refused the change: {getattr(error, 'orig', None) or error}",
                next_step="read the object again and repeat the change",
            ) from error

    def read(self, work: Callable[[Transaction], T], *, now: float) -> T:
        with self._sessions.read() as connection:
            return work(self._transaction(connection, now, writable=False))

    def events(
        self,
        *,
        after: tuple[int, int] = (0, 0),
        uid: Uid | None = None,
        owner_uid: Uid | None = None,
        namespace: str | None = None,
        limit: int = 200,
        newest_first: bool = False,
    ) -> Sequence[StoredEvent]:
        with self._sessions.read() as connection:
            return views.events(
                connection,
                self._views,
                after=after,
                uid=uid,
                owner_uid=owner_uid,
                namespace=namespace,
                limit=limit,
                newest_first=newest_first,
            )

    def records(self, uid: Uid, *, after: int = 0, limit: int = 200) -> Sequence[Record]:
        with self._sessions.read() as connection:
            return records.read(connection, uid, after, limit)

    def last_record(self, uid: Uid) -> tuple[int, str]:
        with self._sessions.read() as connection:
            return records.head(connection, uid)

    def commit_seq(self) -> int:
        with self._sessions.read() as connection:
            return int(connection.execute(self._views.sequence).one()[0])

    def counts(self) -> Mapping[tuple[str, str], int]:
        with self._sessions.read() as connection:
            return {(kind, state): count for kind, state, count in connection.execute(self._views.counts).all()}

    def prune(self, *, now: float, finished_keep_max: int, events_keep_max: int, events_keep_seconds: float) -> int:
        with self._sessions.write() as connection:
            return prune.prune(
                connection,
                self._prune,
                now=float(now),
                finished_keep_max=finished_keep_max,
                events_keep_max=events_keep_max,
                events_keep_seconds=events_keep_seconds,
            )

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def installation(self) -> str:
        return self._installation

    def backup(self, path: str) -> None:
        self._sessions.database.copy_to(path)

    def close(self) -> None:
        self._sessions.close()

    def _transaction(self, connection: Link, now: float, *, writable: bool) -> SqlTransaction:
        return SqlTransaction(
            connection, self._leases, self._templates, now=float(now), driven=self._driven, writable=writable
        )
