"""Any order of claims, commits (fresh and stale), wakes, wishes and restarts, against a model of a few lines."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spinyard.core.ids import Uid
from spinyard.core.plan import Reserve
from spinyard.core.row import ObjectRow
from spinyard.core.spec import ServiceSpec
from spinyard.ports.store import Commit, Committed, Lease, Refused, Stale
from spinyard.store import SqlStore
from spinyard.testing.store_contract import NOW, add_service, find_uid, plan_for

LEASE = 15.0
LIMIT = 3
BACK = st.sampled_from([0, 0, 0, 1, 2, 5])


@dataclass
class Model:
    state: str = "pending"
    version: int = 1
    generation: int = 1
    wake_seq: int = 1
    token: int = 0
    lease_until: float = 0.0
    wake_at: float | None = NOW
    finished: bool = False
    reserved: int = 0
    told: list[str] = field(default_factory=lambda: ["Created"])


class StoreAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory(prefix="sy-model-")
        self.path = str(Path(self.home.name) / "s.db")
        self.store = SqlStore(self.path, new_id=lambda: "home-1")
        self.now = NOW
        self.models: dict[str, Model] = {}
        self.seen: list[ObjectRow] = []
        """rows as somebody once saw them: the last ones are fresh, the others stale"""

    def teardown(self) -> None:
        self.store.close()
        self.home.cleanup()

    @initialize()
    def begin(self) -> None:
        self.add()
        self.claim(4)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = SqlStore(self.path, new_id=lambda: "home-2")

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def add(self) -> None:
        name = f"s{len(self.models)}"
        add_service(self.store, name, now=self.now)
        self.models[f"uid-{name}"] = Model(wake_at=self.now)

    @rule(limit=st.integers(1, 4))
    def claim(self, limit: int) -> None:
        due = sorted(
            (model.wake_at, uid)
            for uid, model in self.models.items()
            if not model.finished
            and model.wake_at is not None
            and model.wake_at <= self.now
            and model.lease_until <= self.now
        )[:limit]
        rows = self.store.claim(holder="h", now=self.now, lease_seconds=LEASE, limit=limit)
        assert [row.uid for row in rows] == [uid for _, uid in due]
        for row in rows:
            model = self.models[row.uid]
            model.token += 1
            model.lease_until = self.now + LEASE
            assert (row.lease_token, row.lease_until) == (model.token, model.lease_until)
        self.seen += rows

    @precondition(lambda self: self.seen)
    @rule(
        back=BACK,
        state=st.sampled_from(["pending", "rolling", "available"]),
        release=st.booleans(),
        finished=st.sampled_from([False, False, False, True]),
        wait=st.sampled_from([None, 0.0, 10.0]),
        amount=st.sampled_from([0, 0, 1, 2]),
    )
    def commit(self, back: int, state: str, release: bool, finished: bool, wait: float | None, amount: int) -> None:
        row = self.pick(back)
        model = self.models[row.uid]
        wake_at = None if wait is None else self.now + wait
        asks = (Reserve("team", f"r{amount}", amount=amount, limit=LIMIT),) if amount else ()
        plan = plan_for(row, state=state, finished=finished, wake_at=wake_at, requires=asks)
        [result] = self.store.commit([Commit(row, plan, release)], now=self.now)
        if not self.is_ours(row) or row.resource_version != model.version:
            assert result == Stale()
            return
        is_reserved = any(
            reservation.name == f"r{amount}" for reservation in find_uid(self.store, row.uid).row.reservations
        )
        if isinstance(result, Refused):
            assert sum(other.reserved for other in self.models.values()) + amount > LIMIT
            return
        assert isinstance(result, Committed)
        if amount and not finished and not is_reserved:
            raise AssertionError("what was reserved is not there")
        model.reserved = 0 if finished else sum(r.amount for r in result.row.reservations)
        model.version += 1
        if state != model.state:
            model.told.append("Because")
        model.state = state
        model.finished = finished
        if finished:
            model.wake_at, model.lease_until = None, 0.0
        elif release:
            model.wake_at = wake_at if row.wake_seq == model.wake_seq else self.now
            model.lease_until = 0.0
        else:
            model.wake_at = self.now
        self.seen.append(result.row)

    @precondition(lambda self: self.seen)
    @rule(back=BACK, wait=st.sampled_from([None, 10.0]))
    def release(self, back: int, wait: float | None) -> None:
        row = self.pick(back)
        model = self.models[row.uid]
        wake_at = None if wait is None else self.now + wait
        self.store.release([(Lease(row.uid, row.lease_token), row.wake_seq, wake_at)], now=self.now)
        if self.is_ours(row):
            if model.wake_seq == row.wake_seq:
                model.wake_at = wake_at
            model.lease_until = 0.0

    @precondition(lambda self: self.seen)
    @rule(back=BACK)
    def extend(self, back: int) -> None:
        row = self.pick(back)
        lease = Lease(row.uid, row.lease_token)
        ours = self.store.extend([lease], until=self.now + LEASE)
        assert ours == ([lease] if self.is_ours(row) else [])
        if ours:
            self.models[row.uid].lease_until = self.now + LEASE

    @precondition(lambda self: self.seen)
    @rule(back=BACK)
    def reload(self, back: int) -> None:
        row = self.pick(back)
        again = self.store.reload(Lease(row.uid, row.lease_token))
        assert (again is not None) == self.is_ours(row)
        if again is not None:
            self.seen.append(again)

    @precondition(lambda self: self.seen)
    @rule(back=BACK)
    def wake(self, back: int) -> None:
        row = self.pick(back)
        self.store.wake([row.uid], now=self.now)
        self.note_wake(self.models[row.uid])

    @precondition(lambda self: self.seen)
    @rule(back=BACK, wait=st.sampled_from([None, 10.0]))
    def wake_in_the_middle_of_a_pass(self, back: int, wait: float | None) -> None:
        self.wake(back)
        self.commit(back, "rolling", True, False, wait, 0)

    @precondition(lambda self: self.seen)
    @rule(back=BACK, replicas=st.integers(1, 3))
    def wish(self, back: int, replicas: int) -> None:
        row = self.pick(back)
        model = self.models[row.uid]
        spec = replace(row.spec, replicas=replicas) if isinstance(row.spec, ServiceSpec) else row.spec
        if model.finished or find_uid(self.store, row.uid).row.spec == spec:
            return
        self.store.transact(lambda tx: tx.update(row.uid, actor="a", why="w", reason="Scaled", spec=spec), now=self.now)
        self.note_wake(model)
        model.version += 1
        model.generation += 1
        model.told.append("Scaled")

    def pick(self, back: int) -> ObjectRow:
        return self.seen[-1 - back % len(self.seen)]

    def is_ours(self, row: ObjectRow) -> bool:
        model = self.models[row.uid]
        return model.token == row.lease_token and model.lease_until > 0 and not model.finished

    def note_wake(self, model: Model) -> None:
        if not model.finished:
            model.wake_seq += 1
            model.wake_at = self.now if model.wake_at is None else min(model.wake_at, self.now)

    @invariant()
    def the_rows_are_those_of_the_model(self) -> None:
        for uid, model in self.models.items():
            stored = find_uid(self.store, Uid(uid))
            row = stored.row
            assert (row.state, row.resource_version, row.generation, row.wake_seq, row.lease_token) == (
                model.state,
                model.version,
                model.generation,
                model.wake_seq,
                model.token,
            )
            assert (stored.wake_at, row.lease_until) == (model.wake_at, model.lease_until)
            assert (stored.finished_at is not None) == model.finished
            assert sum(reservation.amount for reservation in row.reservations) == model.reserved

    @invariant()
    def every_change_of_state_was_told_once_and_in_order(self) -> None:
        told = self.store.events(limit=10_000)
        places = [(event.commit_seq, event.index) for event in told]
        assert places == sorted(set(places))
        for uid, model in self.models.items():
            assert [event.reason for event in told if event.uid == uid] == model.told

    @invariant()
    def no_scope_is_over_its_limit(self) -> None:
        assert sum(model.reserved for model in self.models.values()) <= LIMIT

    @invariant()
    def the_next_due_row_is_the_models(self) -> None:
        waiting = [
            model.wake_at
            for model in self.models.values()
            if model.wake_at is not None and model.lease_until <= self.now
        ]
        assert self.store.next_due(now=self.now) == min(waiting, default=None)


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, derandomize=True, database=None, phases=(Phase.generate,)
)
