"""What users ask for, as frozen data with every default filled in.

The YAML and JSON that people write is parsed and checked in `manifest`, which produces these. Durations are seconds,
sizes bytes. Everything here can be encoded to JSON and back by msgspec without loss; `digest_of` names a Template by
its content.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from spinyard.core.ids import Digest
from spinyard.core.shift import Sticky
from spinyard.core.spinout import SpinoutSpec


class Kind(StrEnum):
    TEMPLATE = "Template"
    SERVICE = "Service"
    SPIN = "Spin"
    JOB = "Job"
    WARM_POOL = "WarmPool"
    CLAIM = "Claim"
    ROLLOUT = "Rollout"
    HOLD = "Hold"
    SPINOUT = "Spinout"


# -- probes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HttpGet:
    """Ok is a status of 200 to 399. `port` is the name of a port of the template."""

    path: str = "/"
    port: str = ""
    host: str = ""
    scheme: str = "http"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TcpSocket:
    port: str = ""


@dataclass(frozen=True, slots=True)
class Grpc:
    """The standard grpc.health.v1 service."""

    port: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Exec:
    """Ok is exit code 0, run with the instance's own environment and directory."""

    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """Exactly one of the four actions is set."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: Grpc | None = None
    exec: Exec | None = None
    initial_delay_seconds: float = 0.0
    period_seconds: float = 10.0
    timeout_seconds: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3


# -- template ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnvVar:
    """`value`, or exactly one source. A secret file is read in the instance at exec, and never stored or sent."""

    name: str
    value: str = ""
    from_file: str = ""
    from_variable: str = ""
    secret_file: str = ""


@dataclass(frozen=True, slots=True)
class Port:
    """`number` 0 means: take a free one of the machine's range."""

    name: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class BootstrapStep:
    name: str
    command: tuple[str, ...]
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class SmokeTest:
    """Run once, after readiness and before any traffic. Exactly one of http_get and exec."""

    http_get: HttpGet | None = None
    exec: Exec | None = None
    timeout_seconds: float = 10.0


class DirectoryScope(StrEnum):
    SPIN = "spin"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """`env` names the variable that tells the program the path."""

    name: str
    scope: DirectoryScope = DirectoryScope.SPIN
    env: str = ""
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """None: not limited beyond the machine's own bounds. `cpu` in cores; refused where it cannot be enforced."""

    memory_bytes: int | None = None
    cpu: float | None = None
    open_files: int | None = None
    processes: int | None = None
    log_bytes: int = 10 * 1024 * 1024


class Isolation(StrEnum):
    NONE = "none"
    NAMESPACES = "namespaces"


@dataclass(frozen=True, slots=True)
class TemplateSpec:
    """How one instance is made. Immutable: it is named by `digest_of(self)`."""

    command: tuple[str, ...]
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    ports: tuple[Port, ...] = ()
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    limits: Limits = field(default_factory=Limits)
    isolation: Isolation = Isolation.NONE
    termination_grace_seconds: float = 30.0
    bootstrap: tuple[BootstrapStep, ...] = ()
    smoke_test: SmokeTest | None = None
    data_directories: tuple[DataDirectory, ...] = ()
    drain_timeout_seconds: float = 30.0
    start_timeout_seconds: float = 60.0
    queue_timeout_seconds: float = 300.0
    failed_ttl_seconds: float = 600.0
    provider: str = "process"
    annotations: tuple[tuple[str, str], ...] = ()


def digest_of(template: TemplateSpec) -> Digest:
    """`sha256:` and 16 hex digits of the canonical JSON of the template."""
    return Digest("sha256:" + hashlib.sha256(msgspec.json.encode(template, order="sorted")).hexdigest()[:16])


# -- objects -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Route:
    """Requests whose Host is one of `hosts` (`*` for any) and whose path starts with `path_prefix`."""

    hosts: tuple[str, ...]
    path_prefix: str = "/"
    port: str = ""
    timeout_seconds: float = 0.0
    http2: bool = False


@dataclass(frozen=True, slots=True)
class Dependency:
    """Wait until that object is available (a Service) or has succeeded (a Job)."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class RollingUpdate:
    """`progress_deadline_seconds`: without one more available instance in this time the new version is given up."""

    max_surge: int = 1
    max_unavailable: int = 0
    progress_deadline_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class ExternalEndpoint:
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class External:
    """Endpoints of something that we do not start."""

    endpoints: tuple[ExternalEndpoint, ...]
    readiness_probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class RolloutStep:
    """`weight` in parts of 10,000. It is left when the judge has passed and `hold_seconds` are over; `wait`: and a
    person has promoted it."""

    weight: int
    hold_seconds: float = 0.0
    wait: bool = False


@dataclass(frozen=True, slots=True)
class LatencyLimit:
    """The quantile of the new side's latency, in seconds, may not be above `max_seconds`, nor above `max_ratio` times
    the old side's. `min_requests` on the new side (and, for the ratio, on the old) before it says anything."""

    quantile: float
    max_seconds: float | None = None
    max_ratio: float | None = None
    min_requests: int = 50


class Gauge(StrEnum):
    ACTIVE_REQUESTS = "activeRequests"
    """requests under way on the new side, for each of its instances in traffic"""
    FAILED_STARTS = "failedStarts"
    """instances of the new version that failed since the rollout began"""
    FAILURE_RATE = "failureRate"
    """share of the new side's requests that failed in the present step, after the first 50: all there is at full
    weight, where there is no old side to compare with"""


@dataclass(frozen=True, slots=True)
class GaugeLimit:
    gauge: Gauge
    max: float


@dataclass(frozen=True, slots=True)
class Analysis:
    """`margin`: by how much more of the new side's requests may fail (0.05: 5 points). `alpha`: how often each verdict
    may be wrong (core/verdict). `enabled` False: steps are left by time and by people alone."""

    enabled: bool = True
    margin: float = 0.05
    alpha: float = 0.05
    latency: tuple[LatencyLimit, ...] = ()
    gauges: tuple[GaugeLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class RolloutStrategy:
    """How a Service goes to another template. `blue_green`: all new instances are up before the first request moves.
    `ready_deadline_seconds`: for the new instances of a step to be in traffic. `soak_seconds`: at full weight, with the
    old side still at full capacity, before it is taken away."""

    blue_green: bool = False
    steps: tuple[RolloutStep, ...] = ()
    analysis: Analysis = field(default_factory=Analysis)
    sticky: Sticky = field(default_factory=Sticky)
    ready_deadline_seconds: float = 120.0
    soak_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RolloutPart:
    """What a running Rollout wants of its Service: written by the Rollout alone, in its own commit. `serial` rises with
    each change. `side` names the cluster of the new side; `probe` and `directories` are of the new template."""

    rollout_uid: str
    rollout_name: str
    template_digest: Digest
    side: str
    serial: int = 0
    replicas: int = 0
    weight: int = 0
    sticky: Sticky = field(default_factory=Sticky)
    probe: Probe | None = None
    directories: tuple[DataDirectory, ...] = ()
    """those of scope Service"""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """Exactly one of `template_digest` and `external` is set; `template_ref` is kept for display.

    `strategy` None: another template is rolled out by replacing instances one after the other. `side` and `rollout` are
    not the user's: the cluster that the last Rollout left behind, and the running one."""

    owner: str = ""
    replicas: int = 1
    template_digest: Digest = Digest("")
    template_ref: str = ""
    external: External | None = None
    route: Route | None = None
    update: RollingUpdate = field(default_factory=RollingUpdate)
    depends_on: tuple[Dependency, ...] = ()
    ttl_seconds: float | None = None
    restarted_at: float = 0.0
    strategy: RolloutStrategy | None = None
    side: str = ""
    rollout: RolloutPart | None = None


@dataclass(frozen=True, slots=True)
class RolloutSpec:
    """One Service from one template to another. Made when a Service with a strategy is applied with another template.

    `promoted`: so many steps a person has let pass; `promoted_fully`: all of them. `abort`: why it is to go back, or
    empty; it is never taken back."""

    service: str
    service_uid: str
    owner: str = ""
    template_digest: Digest = Digest("")
    template_ref: str = ""
    old_digest: Digest = Digest("")
    strategy: RolloutStrategy = field(default_factory=RolloutStrategy)
    probe: Probe | None = None
    directories: tuple[DataDirectory, ...] = ()
    promoted: int = 0
    promoted_fully: bool = False
    abort: str = ""


@dataclass(frozen=True, slots=True)
class OnClaim:
    """Run once in a member when it is claimed, before anything is routed to it. Exactly one of the two."""

    exec: Exec | None = None
    http_get: HttpGet | None = None
    timeout_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Errand:
    """A command that is run once beside the program of a claimed member, for at most so long. How it ends is how the
    member ends."""

    command: tuple[str, ...]
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class ClaimPart:
    """What a claim, or a Job, brings to the member it gets. `files`: (name, content), written into the claim directory;
    `env` goes into `claim.json` there. `host`: the name under which the member is routed, empty for a pool without a
    route. `errand`: a Job's; such a member is not routed."""

    claim_uid: str
    claim_name: str
    host: str = ""
    env: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    on_claim: OnClaim | None = None
    errand: Errand | None = None


@dataclass(frozen=True, slots=True)
class SpinSpec:
    """`service_uid` owns shared directories and the cluster; `cluster` empty means: not routed. `run_to_exit`: a
    Job's."""

    template_digest: Digest
    cluster: str = ""
    route_port: str = ""
    service_uid: str = ""
    service_name: str = ""
    run_to_exit: bool = False
    job_timeout_seconds: float | None = None
    ttl_seconds: float | None = None
    pool_uid: str = ""
    """a member of that pool, claimed or not: it counts against `pool_max` as long as it lives"""
    pool_max: int = 0
    claim: ClaimPart | None = None
    """set when it is claimed, once and for good"""
    trial: int = 0
    """the one start that is tried while the breaker of its template is open: how many were tried with it, in a row"""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Of a template, or on a member of `pool`: then `command` is run there, with `env`, and `env` and `files` are what
    a claim brings. `pool_uid` is not the user's."""

    owner: str = ""
    template_digest: Digest = Digest("")
    template_ref: str = ""
    retries: int = 0
    timeout_seconds: float = 3600.0
    depends_on: tuple[Dependency, ...] = ()
    ttl_seconds: float | None = None
    pool: str = ""
    pool_uid: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NamedTemplateSpec:
    """The object of kind Template: a name for a digest."""

    owner: str = ""
    template_digest: Digest = Digest("")


@dataclass(frozen=True, slots=True)
class PoolWindow:
    """From each firing of `cron` (five fields, UTC) for `duration_seconds`, these bounds hold instead of the pool's."""

    cron: str
    duration_seconds: float
    min: int
    max: int


@dataclass(frozen=True, slots=True)
class WarmPoolSpec:
    """`min` members are kept warm; members and claimed instances together are never more than `max`. A member is
    replaced when it is older than `freshness_seconds`; members above `min` go when idle for `max_idle_seconds`.
    `replace_stale`: members of an older template are replaced (they are never claimable). `host_suffix`: a claim is
    routed under `<claim>.<host_suffix>`; empty: not routed."""

    owner: str = ""
    template_digest: Digest = Digest("")
    template_ref: str = ""
    min: int = 1
    max: int = 10
    windows: tuple[PoolWindow, ...] = ()
    max_idle_seconds: float | None = None
    freshness_seconds: float | None = None
    replace_stale: bool = True
    host_suffix: str = ""
    route_port: str = ""
    on_claim: OnClaim | None = None


@dataclass(frozen=True, slots=True)
class ClaimSpec:
    """`expires_at` moves with each renewal; None: never. `wait_seconds`: how long it may wait while the pool is at its
    maximum; 0: not at all."""

    pool: str
    pool_uid: str = ""
    owner: str = ""
    env: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    ttl_seconds: float | None = None
    expires_at: float | None = None
    wait_seconds: float = 0.0
    host: str = ""


@dataclass(frozen=True, slots=True)
class HoldSpec:
    """A person puts off what happens by itself. `scope`: `everything`, `namespace/NAME`, or `kind/NAME` of the Hold's
    own namespace, the kind in lower case. `until` None: until it is released."""

    scope: str
    why: str
    by: str
    until: float | None = None


ObjectSpec = (
    ServiceSpec
    | SpinSpec
    | JobSpec
    | NamedTemplateSpec
    | WarmPoolSpec
    | ClaimSpec
    | RolloutSpec
    | HoldSpec
    | SpinoutSpec
)
