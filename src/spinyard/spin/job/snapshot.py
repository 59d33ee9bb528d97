"""One frozen view of a Job and of its attempts."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from spinyard.core.observed import Children, LookChildren, Seen
from spinyard.core.plan import ChildChange, EventDraft, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import JobSpec
from spinyard.spin.gate import Gate, gate_of
from spinyard.spin.job.status import JobState, JobStatus


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    row: ObjectRow
    spec: JobSpec
    status: JobStatus
    seen: Seen
    now: float

    @property
    def children(self) -> Children:
        answer = self.seen.answers.get(LookChildren(self.row.uid))
        assert isinstance(answer, Children)
        return answer

    @property
    def gate(self) -> Gate:
        return gate_of(self.row, self.seen, self.spec.template_digest, self.now)

    def plan(
        self,
        state: JobState,
        why: str,
        reason: str,
        status: JobStatus,
        *,
        wake_in: float | None,
        children: tuple[ChildChange, ...] = (),
        events: tuple[EventDraft, ...] = (),
    ) -> Plan:
        if state != self.row.state:
            status = msgspec.structs.replace(status, since=self.now)
        status = msgspec.structs.replace(status, observed_generation=self.row.generation)
        return Plan(
            state=str(state),
            status=msgspec.json.encode(status),
            why=why,
            reason=reason,
            wake_at=None if wake_in is None else self.now + wake_in,
            children=children,
            events=events,
            outcome=status.outcome,
        )
