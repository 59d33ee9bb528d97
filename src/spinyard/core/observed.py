"""What was seen. Three answers and no fourth: an error, a timeout or silence is Unknown, and never Absent."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from spinyard.core.ids import Digest, ResourceKey, Uid
from spinyard.core.spec import Kind, ObjectSpec, Probe, WarmPoolSpec
from spinyard.core.want import BoundaryWant, RouteWant


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """`running` until everything of its tree is gone. `exit_code` is None for a death by signal, and while running."""

    running: bool
    pid: int = 0
    started_at: float = 0.0
    exited_at: float | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    error_class: str = ""
    """set when the program could not be started at all, or was killed for a limit (see errors.ErrorClass)"""
    error: str = ""
    peak_memory_bytes: int = 0
    cpu_seconds: float = 0.0
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """`acknowledged`: the data plane confirmed the wish as it stands now. `rejected`: its words, if it refused."""

    acknowledged: bool
    healthy: bool = False
    active_requests: int = 0
    rejected: str = ""
    state: str = ""
    """the EndpointState that was acknowledged, or is being asked for; a holder that finds another asks again"""


@dataclass(frozen=True, slots=True)
class DirectoryFacts:
    """`files`: (name, `content_mark` of it) of what was written there through FileWants."""

    path: str = ""
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RouteFacts:
    acknowledged: bool
    rejected: str = ""
    want: RouteWant | None = None
    """the wish that was acknowledged, or is being asked for; None: not known. A holder that finds another asks again"""
    is_shared: bool = False
    """its requests are shared as it says wherever they come in, whatever else speaks against it"""


@dataclass(frozen=True, slots=True)
class BoundaryFacts:
    """As RouteFacts. `missing`: the Services ("namespace/name") that have no route the data plane knows; while one is
    missing the boundary is not in force, and its requests stay with the parent."""

    acknowledged: bool
    rejected: str = ""
    want: BoundaryWant | None = None
    missing: tuple[str, ...] = ()


Facts = ProcessFacts | EndpointFacts | DirectoryFacts | RouteFacts | BoundaryFacts


@dataclass(frozen=True, slots=True)
class Present:
    facts: Facts


@dataclass(frozen=True, slots=True)
class Absent:
    """`seconds`: since this observer first saw it absent, with no other answer in between, by a clock that does not
    jump. Only filled in where one Absent is no proof (Capabilities.gone_after_seconds)."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Unknown:
    why: str


Observed = Present | Absent | Unknown


class ProbeAnswer(StrEnum):
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """the probe itself could not be made"""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    answer: ProbeAnswer
    message: str = ""


# -- what to look at: asked by a domain, answered by the engine's observe ---------------------------------------------


@dataclass(frozen=True, slots=True)
class LookResource:
    """Answer: Observed."""

    provider: str
    key: ResourceKey


@dataclass(frozen=True, slots=True)
class LookProbe:
    """One probe now, made by us. `process` is the key of the instance (for exec). Answer: ProbeResult."""

    process: ResourceKey
    address: str
    ports: tuple[tuple[str, int], ...]
    probe: Probe


@dataclass(frozen=True, slots=True)
class LookWatch:
    """A probe that is made periodically beside the passes, with its thresholds applied. Answer: ProbeResult, UNKNOWN
    until it has been made. Being asked for is what keeps it running."""

    purpose: str
    process: ResourceKey
    address: str
    ports: tuple[tuple[str, int], ...]
    probe: Probe


@dataclass(frozen=True, slots=True)
class LookChildren:
    """Answer: Children, read from the store."""

    owner: Uid


@dataclass(frozen=True, slots=True)
class LookObject:
    """Answer: ObjectBrief or None."""

    kind: Kind
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class LookPool:
    """A pool as one who wants a member sees it. Answer: PoolView or None."""

    pool: Uid
    warm_state: str


@dataclass(frozen=True, slots=True)
class LookPeer:
    """Another object as it stands in the store. Answer: Peer, None (there is none that is unfinished), or Unknown."""

    uid: Uid


@dataclass(frozen=True, slots=True)
class LookTraffic:
    """What the data plane has counted for these clusters. Answer: Traffic, or Unknown: then it decides nothing."""

    clusters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LookHold:
    """Whether a person has put off what happens by itself with this object. Asked by parents only (Service, WarmPool,
    Job, Rollout). Answer: Held or None."""

    namespace: str
    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class LookStarts:
    """How the last `limit` starts of a template went, whoever asked for them. `scope`: of the reservation that one
    trial start needs. Answer: Starts."""

    template_digest: Digest
    scope: str
    limit: int


@dataclass(frozen=True, slots=True)
class LookGauge:
    """One figure from a Prometheus HTTP API. Answer: GaugeSample, or Unknown."""

    url: str
    query: str


@dataclass(frozen=True, slots=True)
class LookJoin:
    """How many of the unit's requests since `since` have a whole trace. `service`: as which the unit's spans are known
    (its OTEL_SERVICE_NAME). Answer: TraceJoin, or Unknown."""

    cluster: str
    since: float
    service: str = ""


@dataclass(frozen=True, slots=True)
class LookShadow:
    """What the comparison of copied requests has found for this boundary since `since`. Answer: ShadowFound, or
    Unknown."""

    cluster: str
    since: float


Look = (
    LookResource
    | LookProbe
    | LookWatch
    | LookChildren
    | LookObject
    | LookPool
    | LookPeer
    | LookTraffic
    | LookHold
    | LookStarts
    | LookGauge
    | LookJoin
    | LookShadow
)


@dataclass(frozen=True, slots=True)
class GaugeSample:
    """`value` may be NaN: then it is missing data. `at`: when it was measured (unix seconds)."""

    value: float
    at: float


@dataclass(frozen=True, slots=True)
class TraceJoin:
    """`samples`: ids of traces that are not whole, at most 5."""

    joined: int
    broken: int
    samples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShadowFound:
    """`different`: beyond the learned noise. `errors`: the unit gave no answer to compare, or a 5xx where the parent
    gave none. `fields`: (name, how often it differed), most frequent first, at most 10."""

    compared: int
    different: int
    errors: int = 0
    skipped: int = 0
    fields: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ChildBrief:
    uid: Uid
    slot: str
    state: str
    template_digest: Digest
    deleting: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class ChildGroup:
    """All unfinished children alike in (state, template, deleting): how many, and the k oldest of them."""

    state: str
    template_digest: Digest
    deleting: bool
    count: int
    oldest: tuple[ChildBrief, ...]


@dataclass(frozen=True, slots=True)
class ChildFailure:
    uid: Uid
    template_digest: Digest
    failed_at: float
    served_at: float | None
    outcome: str
    message: str


@dataclass(frozen=True, slots=True)
class Children:
    """A parent's view of its children: never O(n) in what it carries.

    `failures`: the most recent 32, newest first, of kept records. `last_served_at`: by template, when any child last
    began to serve. `highest_slot`: the largest slot number ever used, -1 for none.
    """

    groups: tuple[ChildGroup, ...] = ()
    failures: tuple[ChildFailure, ...] = ()
    last_served_at: tuple[tuple[Digest, float], ...] = ()
    highest_slot: int = -1
    finished: int = 0
    succeeded: int = 0


@dataclass(frozen=True, slots=True)
class ObjectBrief:
    uid: Uid
    state: str
    deleting: bool


@dataclass(frozen=True, slots=True)
class PoolView:
    """`warm`: claimable members of the present template. `held`: live members, claimed ones too. `waiting`: claims that
    have no member yet."""

    uid: Uid
    spec: WarmPoolSpec
    deleting: bool
    warm: int
    held: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Peer:
    uid: Uid
    name: str
    state: str
    spec: ObjectSpec
    status: bytes
    generation: int
    deleting: bool
    paused: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A hold that is in force: of several, the one that lasts longest. `scope`: "everything", "namespace/NAME" or
    "kind/NAME". `until` None: until it is released."""

    scope: str
    why: str
    by: str
    since: float
    until: float | None = None

    @property
    def words(self) -> str:
        return f"held by {self.by}: {self.why}"


FLAP_SECONDS = 10.0
"""who fails sooner than this after it came up counts as not having started"""


@dataclass(frozen=True, slots=True)
class StartRecord:
    """How a start went: the instance came up at `at` (served, ready without a route, or warm), or failed before that or
    less than FLAP_SECONDS after. `trial`: the mark in its spec."""

    uid: Uid
    created_at: float
    at: float
    failed: bool
    outcome: str = ""
    message: str = ""
    trial: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """Who has the one trial start of a template. `is_over`: it failed, or is going. `up_at`: when it came up."""

    parent: Uid
    child: Uid
    is_over: bool
    up_at: float | None = None

    def runs(self, now: float) -> bool:
        """Not known yet whether it is good."""
        return not self.is_over and (self.up_at is None or now - self.up_at < FLAP_SECONDS)


@dataclass(frozen=True, slots=True)
class Starts:
    """Newest first, by kept records. Empty as long as none has failed."""

    recent: tuple[StartRecord, ...] = ()
    trial: Trial | None = None


class ClusterTraffic(msgspec.Struct, frozen=True, omit_defaults=True):
    """Since the data plane's epoch began. `requests`: those that were answered, whatever with, each once however often
    it was retried; `failures`: of these, by 5xx or by none. `active`: under way now. `latency`: (upper bound in
    seconds, how many took no longer), cumulative, the bounds ascending and finite (it is stored as JSON)."""

    requests: int = 0
    failures: int = 0
    active: int = 0
    latency: tuple[tuple[float, int], ...] = ()


class Traffic(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counters only go up as long as `epoch` is the same; another epoch means: begun anew, nothing can be told of what
    lay between. A cluster without any request may be missing. `at`: wall time of the reading."""

    epoch: str
    at: float
    clusters: dict[str, ClusterTraffic] = {}


Answer = (
    Observed
    | ProbeResult
    | Children
    | ObjectBrief
    | PoolView
    | Peer
    | Traffic
    | Held
    | Starts
    | GaugeSample
    | TraceJoin
    | ShadowFound
    | None
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An action that failed, as a value."""

    error_class: str
    message: str
    retryable: bool
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything one decision may look at beside the row itself.

    `outcomes`: failures of the actions executed since the last decision, by resource key. `refused`: why the store
    refused the reservation of the last plan, or empty.
    """

    answers: dict[Look, Answer] = field(default_factory=dict)
    outcomes: dict[ResourceKey, Failure] = field(default_factory=dict)
    refused: str = ""
