"""One frozen view of a Spin and of its world, and the few ways in which a rule answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from spinyard.core.actions import Action, Ensure, Remove
from spinyard.core.backoff import backoff_seconds
from spinyard.core.ids import ResourceKey, resource_key
from spinyard.core.observed import (
    Absent,
    EndpointFacts,
    Failure,
    LookProbe,
    LookResource,
    LookWatch,
    Observed,
    Present,
    ProbeAnswer,
    ProbeResult,
    ProcessFacts,
    Seen,
    Unknown,
)
from spinyard.core.plan import EventDraft, Plan, Reserve, Resource
from spinyard.core.row import ObjectRow
from spinyard.core.spec import SpinSpec, TemplateSpec
from spinyard.core.want import Want
from spinyard.errors import ErrorClass
from spinyard.spin.status import ExitRecord, SpinStatus, State, encode_status

PROXY = "proxy"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What decisions need to know of a provider. `ports`: the range its spins get numbers from, in scope `scope`."""

    scope: str
    ports: tuple[int, int]
    gone_after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SpinRules:
    """Fixed for a process: the providers by name, the deadlines of states, in seconds, and where instances send spans
    (`http://host:port`, or empty)."""

    providers: Mapping[str, ProviderFacts]
    proxy_gone_after_seconds: float = 0.0
    provisioning_seconds: float = 60.0
    registering_seconds: float = 10.0
    registering_unknown_seconds: float = 60.0
    terminating_margin_seconds: float = 10.0
    cleaning_seconds: float = 60.0
    drain_min_seconds: float = 0.05
    inventory_seconds: float = 30.0
    otlp: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    row: ObjectRow
    spec: SpinSpec
    template: TemplateSpec
    status: SpinStatus
    seen: Seen
    rules: SpinRules
    now: float

    # -- keys ----------------------------------------------------------------------------------------------------

    def key(self, part: str) -> ResourceKey:
        return resource_key(self.row.uid, part)

    @property
    def process_key(self) -> ResourceKey:
        return self.key("process")

    @property
    def endpoint_key(self) -> ResourceKey:
        return self.key("endpoint")

    # -- what was seen ---------------------------------------------------------------------------------------------

    def observed(self, provider: str, key: ResourceKey) -> Observed:
        answer = self.seen.answers.get(LookResource(provider, key))
        if isinstance(answer, Present | Absent | Unknown):
            return answer
        return Unknown("it was not looked at")

    @property
    def process(self) -> Observed:
        return self.observed(self.template.provider, self.process_key)

    @property
    def endpoint(self) -> Observed:
        return self.observed(PROXY, self.endpoint_key)

    def probe(self, look: LookProbe | LookWatch) -> ProbeResult:
        answer = self.seen.answers.get(look)
        return answer if isinstance(answer, ProbeResult) else ProbeResult(ProbeAnswer.UNKNOWN, "it was not probed")

    def resource(self, key: ResourceKey) -> Resource | None:
        return next((resource for resource in self.row.resources if resource.key == key), None)

    def failure(self, key: ResourceKey) -> Failure | None:
        return self.seen.outcomes.get(key)

    # -- what is wished --------------------------------------------------------------------------------------------

    @property
    def deleting(self) -> bool:
        return self.row.delete_at is not None or self.expired

    @property
    def expired(self) -> bool:
        ttl = self.spec.ttl_seconds
        return ttl is not None and self.now >= self.row.created_at + ttl

    @property
    def expires_at(self) -> float | None:
        return None if self.spec.ttl_seconds is None else self.row.created_at + self.spec.ttl_seconds

    @property
    def in_state_seconds(self) -> float:
        return self.now - self.status.since

    @property
    def in_phase_seconds(self) -> float:
        """Since the present part of the state began: what came before it does not use up its time."""
        return self.now - max(self.status.since, self.status.phase_at)

    @property
    def ports(self) -> tuple[tuple[str, int], ...]:
        """The numbers reserved for the template's ports, in the template's order."""
        slots = {reservation.name: reservation.slot for reservation in self.row.reservations}
        return tuple(
            (port.name, slot) for port in self.template.ports if (slot := slots.get(f"port/{port.name}")) is not None
        )

    @property
    def provider_facts(self) -> ProviderFacts:
        return self.rules.providers[self.template.provider]

    # -- answers -----------------------------------------------------------------------------------------------------

    def ledger(self, key: ResourceKey, kind: str, provider: str, stored: Want | None = None) -> Resource:
        """A new row of the ledger, wanted."""
        gone_after = (
            self.rules.proxy_gone_after_seconds if provider == PROXY else self.provider_facts.gone_after_seconds
        )
        return Resource(key, self.row.uid, provider, kind, True, stored, gone_after, created_at=self.now)

    def stay(
        self,
        why: str,
        reason: str,
        *,
        wake_in: float | None,
        status: SpinStatus | None = None,
        actions: tuple[Action, ...] = (),
        resources: tuple[Resource, ...] = (),
        requires: tuple[Reserve, ...] = (),
        events: tuple[EventDraft, ...] = (),
    ) -> Plan:
        return Plan(
            state=self.row.state,
            status=encode_status(status or self.status),
            why=why,
            reason=reason,
            wake_at=None if wake_in is None else self.now + wake_in,
            actions=actions,
            resources=resources,
            requires=requires,
            events=events,
            failed_at=self.row.failed_at,
            served_at=self.row.served_at,
            outcome=self.row.outcome,
        )

    def move(
        self,
        state: State,
        why: str,
        reason: str,
        *,
        status: SpinStatus | None = None,
        actions: tuple[Action, ...] = (),
        resources: tuple[Resource, ...] = (),
        requires: tuple[Reserve, ...] = (),
        events: tuple[EventDraft, ...] = (),
    ) -> Plan:
        """To another state, due again at once. Counters of the state begin anew."""
        entered = msgspec.structs.replace(
            status or self.status,
            since=self.now,
            phase_at=0.0,
            attempts=0,
            retry_at=0.0,
            last_error="",
            last_error_class="",
            stuck=False,
            unknown=False,
            timeline=(*(status or self.status).timeline, (str(state), round(self.now, 4)))[-24:],
        )
        return Plan(
            state=str(state),
            status=encode_status(entered),
            why=why,
            reason=reason,
            wake_at=self.now,
            actions=actions,
            resources=resources,
            requires=requires,
            events=events,
            failed_at=self.row.failed_at,
            served_at=self.row.served_at,
            outcome=self.row.outcome,
        )

    def next_phase(self, **changes: object) -> SpinStatus:
        """The status with these changes, as the next part of the same state begins."""
        return msgspec.structs.replace(self.status, phase_at=self.now, **changes)

    def fail(self, error_class: ErrorClass, message: str, *, diagnostics: str = "") -> Plan:
        """To `failed`. What routes to it goes in the same commit; the rest is taken down by the states that follow."""
        status = msgspec.structs.replace(
            self.status, diagnostics=diagnostics[-2000:], exit=exit_record(self.process) or self.status.exit
        )
        endpoint = self.resource(self.endpoint_key)
        gone = () if endpoint is None else (replace(endpoint, wanted=False),)
        removal: tuple[Action, ...] = () if endpoint is None else (Remove(PROXY, self.endpoint_key),)
        plan = self.move(State.FAILED, message, str(error_class), status=status, actions=removal, resources=gone)
        failed = msgspec.structs.replace(
            msgspec.json.decode(plan.status, type=SpinStatus), last_error=message, last_error_class=str(error_class)
        )
        return replace(plan, status=encode_status(failed), outcome=str(error_class), failed_at=self.now)

    def retry(self, failure: Failure, why: str) -> Plan:
        """Nothing now, the same again after a backoff; the attempt and its error are remembered and shown."""
        attempts = self.status.attempts + 1
        wait = max(backoff_seconds(attempts, self.row.uid), failure.retry_after_seconds or 0.0)
        if failure.error_class == ErrorClass.RATE_LIMITED and failure.retry_after_seconds is not None:
            # Nothing is wrong with it: its turn comes then, and what was not sent is no attempt.
            attempts, wait = max(0, self.status.attempts - 1), failure.retry_after_seconds
        status = msgspec.structs.replace(
            self.status,
            attempts=attempts,
            retry_at=self.now + wait,
            last_error=failure.message,
            last_error_class=failure.error_class,
        )
        return self.stay(f"{why}: {failure.message}", failure.error_class, wake_in=wait, status=status)


def exit_record(observed: Observed) -> ExitRecord | None:
    match observed:
        case Present(facts=ProcessFacts(running=False) as facts):
            return ExitRecord(facts.exit_code, facts.exit_signal, facts.peak_memory_bytes, facts.cpu_seconds)
        case _:
            return None


def endpoint_facts(observed: Observed) -> EndpointFacts | None:
    match observed:
        case Present(facts=EndpointFacts() as facts):
            return facts
        case _:
            return None


def ensure(snapshot: Snapshot, key: ResourceKey, want: Want) -> Ensure:
    return Ensure(PROXY if key.endswith("/endpoint") else snapshot.template.provider, key, want)
