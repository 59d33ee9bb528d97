"""What must always hold of Spinouts, by the truth of the data plane. Numbers in brackets: invariants of SPINOUT."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from spinyard.core.chain import first_break
from spinyard.core.ids import ResourceKey, Uid
from spinyard.core.observed import LookTraffic, Seen, Traffic
from spinyard.core.plan import Plan
from spinyard.core.row import ObjectRow
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Kind
from spinyard.core.spinout import SpinoutSpec
from spinyard.ports.store import Commit, CommitResult, Committed
from spinyard.spinout.decide import NO_WAY_BACK
from spinyard.spinout.status import SpinoutState, SpinoutStatus, decode_spinout_status
from spinyard.testing.simulation.checks import Checks
from spinyard.testing.simulation.parts import ObjectFacts

S = SpinoutState
RISES_FROM = (S.BASELINED, S.SHADOWING, S.RAMPING)
BACK = (S.ROLLING_BACK, S.ROLLED_BACK, S.ABANDONED)
STALE_SECONDS = 15.0


class SpinoutChecks(Checks):
    """All that is checked of every run, and this."""

    def __init__(self, sim: Any) -> None:
        super().__init__(sim)
        self._transitions: Counter[str] = Counter()
        self._seen: dict[tuple[str, int], Seen] = {}

    # -- decisions ---------------------------------------------------------------------------------------------------

    def decided(self, plane: Any, row: ObjectRow, seen: Seen, plan: Plan, now: float) -> None:
        super().decided(plane, row, seen, plan, now)
        if row.kind is not Kind.SPINOUT:
            return
        assert isinstance(row.spec, SpinoutSpec)
        before, after = decode_spinout_status(row.status), decode_spinout_status(plan.status)
        self._sim.reached(f"spinout-reason:{plan.reason}")
        if after.weight > before.weight:
            self._rises(row, row.spec, seen, before, after, now)
        failing = [gate.name for gate in after.gates if gate.verdict == "fail"]
        going = row.state not in (*BACK, S.COMPLETED)
        if after.held_reason == NO_WAY_BACK:
            self._sim.reached("spinout-no-way-back")
        elif failing and (after.weight or after.mirror) and going and plan.state not in BACK:
            self._broken("[4] a guard fails, and it stays", f"{row.name} in {row.state}: {failing}")
        if going and (row.spec.abort or row.delete_at is not None) and plan.state not in BACK:
            self._broken("[5] an abort or a deletion was not taken", f"{row.name} in {row.state}: {plan.why}")

    def _rises(
        self, row: ObjectRow, spec: SpinoutSpec, seen: Seen, before: SpinoutStatus, after: SpinoutStatus, now: float
    ) -> None:
        self._sim.reached("spinout-rises")
        where = f"{row.name} from {before.weight} to {after.weight} in {row.state}"
        if row.paused or row.state not in RISES_FROM:
            self._broken("[3] it rises while it may not", where)
        truth = self._sim.traffic.weight_of(row.uid)
        if before.weight and truth is not None and truth != before.weight and not self._sim.traffic.meddled:
            self._broken("[3] it rises before the last weight was in force", f"{where}: in force is {truth}")
        promoted = spec.promoted > before.step or spec.promoted_fully or after.step > before.step + 1
        if not before.weight or promoted or any(approval.waives for approval in spec.approvals):
            return
        told = next((a for look, a in seen.answers.items() if isinstance(look, LookTraffic)), None)
        if not isinstance(told, Traffic) or now - told.at > STALE_SECONDS:
            self._broken("[3] it rises although nothing was told of its requests", f"{where}: {told}")
        served = self._sim.traffic.served_since_in_force(row.uid)
        if served < 20:
            self._broken("[3] it rises on too little", f"{where}: {served} requests at that weight")

    # -- commits -----------------------------------------------------------------------------------------------------

    def committed(
        self, plane: Any, batch: Sequence[Commit], results: Sequence[CommitResult], before: dict[str, ObjectFacts]
    ) -> None:
        super().committed(plane, batch, results, before)
        for commit, result in zip(batch, results, strict=True):
            if isinstance(result, Committed) and commit.row.kind is Kind.SPINOUT:
                self._spinout(commit.row, commit.plan)

    def _spinout(self, row: ObjectRow, plan: Plan) -> None:
        sim = self._sim
        if plan.state == row.state:
            return
        self._transitions[row.uid] += 1
        before, after = decode_spinout_status(row.status), decode_spinout_status(plan.status)
        weight = sim.traffic.weight_of(row.uid) or 0
        if plan.state in (S.ROLLED_BACK, S.ABANDONED) and weight and not sim.traffic.meddled and not row.force:
            self._broken("[5] it is back, and requests go to the unit", f"{row.name}: {weight} is in force")
        if plan.state == S.SWITCHED and weight != WEIGHT_ALL and not sim.traffic.meddled:
            self._broken("[3] switched before all requests go there", f"{row.name}: {weight} is in force")
        if plan.state == S.ROLLING_BACK:
            sim.reached(f"spinout-back:{after.stopped_reason}")
            if after.stopped_reason == "GateFailed" and not sim.traffic.failed_at_unit(row.uid):
                self._broken("[3] sent back although no request failed there", f"{row.name}: {after.stopped}")
        if plan.state == S.SWITCHED and sim.traffic.is_bad_throughout(row.uid, before.attempt_at):
            assert isinstance(row.spec, SpinoutSpec)
            if not (row.spec.promoted or row.spec.promoted_fully):
                self._broken("[3] a bad unit got all requests", f"{row.name}: {after.gates}")

    # -- effects -----------------------------------------------------------------------------------------------------

    def remove_asked(self, plane: Any, provider: str, key: ResourceKey, now: bool) -> None:
        super().remove_asked(plane, provider, key, now)
        uid, _, part = key.partition("/")
        facts = self._sim.peek.object(uid)
        if not part.startswith("boundary") or facts is None or facts.state == S.RETIRING or facts.force:
            return
        weight = self._sim.traffic.weight_of(uid)
        if weight and not self._sim.traffic.meddled and facts.token and self.holds(plane, uid):
            self._broken("[5] the boundary is removed while it shares requests", f"{facts.name}: {weight}")

    # -- at the end --------------------------------------------------------------------------------------------------

    def histories(self, uids: Sequence[str]) -> list[str]:
        """[12] All that happened is on record, and nothing else."""
        out = []
        for uid in uids:
            records = list(self._sim.store.records(Uid(uid), limit=100_000))
            broken = first_break(records)
            if broken is not None:
                out.append(f"[12] the history of {uid} breaks at {broken.seq}: {broken.why}")
            last = (records[-1].seq, records[-1].hash) if records else (0, "")
            if self._sim.store.last_record(Uid(uid)) != last:
                out.append(f"[12] the history of {uid} does not end with its last record")
            told = sum(record.kind == "transition" for record in records)
            if told != self._transitions[uid]:
                out.append(f"[12] {told} transitions of {uid} are on record, there were {self._transitions[uid]}")
            states = [json.loads(r.body) for r in records if r.kind == "transition"]
            if any(a["to"] != b["from"] for a, b in pairwise(states)):
                out.append(f"[12] the transitions of {uid} do not follow each other")
        return out
