"""The published form of every kind: field names as Kubernetes users know them, types, bounds, defaults, descriptions.

Only what concerns one field is here; what concerns several is in `checks`. Defaults come from `core.spec`, so that
they are written once.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from spinyard.core.spec import BootstrapStep, Limits, Probe, RollingUpdate, Route, SmokeTest, TemplateSpec
from spinyard.manifest.fields import (
    Address,
    Bytes,
    Cores,
    Duration,
    HeaderName,
    HeaderValue,
    Host,
    Label,
    LabelKey,
    LabelValue,
    PortName,
    PortNumber,
    PortReference,
    ProbeHost,
    Share,
    SomeText,
    Text,
    Timestamp,
    UrlPath,
    Variable,
)
from spinyard.manifest.rollout_shapes import RolloutShape
from spinyard.manifest.shape import Shape

_PROBE = Probe()
_TEMPLATE = TemplateSpec(command=())
_STEP = BootstrapStep(name="", command=())
_UPDATE = RollingUpdate()
_ROUTE = Route(hosts=())

Command = Annotated[list[Text], Field(max_length=4096)]


# -- probes ----------------------------------------------------------------------------------------------------------


class HeaderShape(Shape):
    name: HeaderName = Field(description="Name of the header.")
    value: HeaderValue = Field(description="Value of the header.")


class HttpGetShape(Shape):
    path: UrlPath = Field(default="/", description="Path to ask for; a status of 200 to 399 is ok.")
    port: PortReference = Field(default="", description="Name (or fixed number) of a port; default: the first.")
    host: ProbeHost = Field(default="", description="Host header; default: address and port.")
    scheme: Literal["HTTP", "HTTPS", "http", "https"] = Field(default="HTTP", description="HTTPS is not verified.")
    http_headers: Annotated[list[HeaderShape], Field(max_length=64)] = Field(
        default_factory=list, description="Headers of the request."
    )


class TcpSocketShape(Shape):
    port: PortReference = Field(default="", description="Name (or fixed number) of a port; default: the first.")


class GrpcShape(Shape):
    port: PortReference = Field(default="", description="Name (or fixed number) of a port; default: the first.")
    service: Annotated[str, Field(max_length=255)] = Field(default="", description="Service of grpc.health.v1.Health.")


class ExecShape(Shape):
    command: Command = Field(min_length=1, description="Program and arguments; exit code 0 is ok. No shell.")


class ProbeShape(Shape):
    http_get: HttpGetShape | None = Field(default=None, description="Ok: answers 200 to 399.")
    tcp_socket: TcpSocketShape | None = Field(default=None, description="Ok: takes a connection.")
    grpc: GrpcShape | None = Field(default=None, description="Ok: grpc.health.v1 says SERVING.")
    exec: ExecShape | None = Field(default=None, description="Ok: exits with 0.")
    initial_delay_seconds: Annotated[Duration, Field(le=86400)] = Field(
        default=_PROBE.initial_delay_seconds, description="Wait before the first probe."
    )
    period_seconds: Annotated[Duration, Field(ge=0.05, le=86400)] = Field(
        default=_PROBE.period_seconds, description="Time from one probe to the next."
    )
    timeout_seconds: Annotated[Duration, Field(ge=0.01, le=600)] = Field(
        default=_PROBE.timeout_seconds, description="Silence for this long is a failure."
    )
    success_threshold: int = Field(
        default=_PROBE.success_threshold, ge=1, le=1000, description="Successes in a row that count as ok."
    )
    failure_threshold: int = Field(
        default=_PROBE.failure_threshold, ge=1, le=1000, description="Failures in a row that count as failed."
    )


# -- template --------------------------------------------------------------------------------------------------------


class ValueFromShape(Shape):
    file: SomeText | None = Field(default=None, description="A file whose text is the value, read at each start.")
    variable: Variable | None = Field(
        default=None, description="Another environment variable, of the keeper's environment."
    )
    secret_file: SomeText | None = Field(
        default=None, description="As file, but never stored, sent or shown: read in the instance just before it runs."
    )


class EnvShape(Shape):
    name: Variable = Field(description="Name of the variable.")
    value: Text | None = Field(default=None, description="Text; ${PORT} and ${OTHER} are expanded. Quote numbers.")
    value_from: ValueFromShape | None = Field(default=None, description="Where the value comes from; instead of value.")


class PortShape(Shape):
    name: PortName = Field(description="The program gets the number as PORT_<NAME>, of the first port also as PORT.")
    number: PortNumber | None = Field(
        default=None, description="A fixed number; default: a free one for each instance."
    )
    container_port: PortNumber | None = Field(default=None, description="The same as number, as Kubernetes calls it.")


class LimitsShape(Shape):
    memory: Bytes | None = Field(default=None, description="Memory of all processes of an instance together.")
    cpu: Cores | None = Field(default=None, description="Cores; refused where the machine cannot enforce it.")
    open_files: Annotated[int, Field(ge=16, le=1 << 20)] | None = Field(
        default=None, description="Open files of a process."
    )
    processes: Annotated[int, Field(ge=1, le=1 << 20)] | None = Field(
        default=None, description="Processes and threads."
    )
    log: Annotated[Bytes, Field(ge=4096)] = Field(
        default=Limits().log_bytes, description="Bytes of output kept; the oldest go first."
    )


class ResourcesShape(Shape):
    limits: LimitsShape = Field(default_factory=LimitsShape, description="What an instance may use at most.")


class BootstrapShape(Shape):
    name: Label = Field(description="Name of the step, unique in its template.")
    command: Command = Field(min_length=1, description="Program and arguments; must exit with 0. No shell.")
    timeout_seconds: Annotated[Duration, Field(ge=0.1, le=86400)] = Field(
        default=_STEP.timeout_seconds, description="Killed, and the spin failed, after this time."
    )


class SmokeTestShape(Shape):
    http_get: HttpGetShape | None = Field(default=None, description="Ok: answers 200 to 399.")
    exec: ExecShape | None = Field(default=None, description="Ok: exits with 0.")
    timeout_seconds: Annotated[Duration, Field(ge=0.01, le=3600)] = Field(
        default=SmokeTest().timeout_seconds, description="Silence for this long is a failure."
    )


class DataDirectoryShape(Shape):
    name: Label = Field(description="Name of the directory, unique in its template.")
    scope: Literal["spin", "service"] = Field(
        default="spin",
        description="spin: each instance its own, removed with it. service: shared, removed with the Service.",
    )
    env: Variable | None = Field(default=None, description="Variable that tells the program the path.")
    retain: bool = Field(default=False, description="Keep it when the Service is deleted (scope service only).")


class DrainShape(Shape):
    timeout_seconds: Annotated[Duration, Field(le=86400)] = Field(
        default=_TEMPLATE.drain_timeout_seconds, description="Time that open requests get before the instance is ended."
    )


class TemplateShape(Shape):
    command: Command = Field(default_factory=list, description="Program and arguments, run without a shell. Required.")
    args: Command = Field(default_factory=list, description="More arguments, after command.")
    working_dir: Annotated[str, Field(max_length=4096)] = Field(default="", description="Absolute path to run in.")
    env: Annotated[list[EnvShape], Field(max_length=1000)] = Field(
        default_factory=list, description="Environment variables."
    )
    ports: Annotated[list[PortShape], Field(max_length=32)] = Field(
        default_factory=list, description="Ports that the program opens on 127.0.0.1."
    )
    readiness_probe: ProbeShape | None = Field(
        default=None, description="While it fails, the instance gets no requests."
    )
    liveness_probe: ProbeShape | None = Field(default=None, description="When it fails, the instance is replaced.")
    startup_probe: ProbeShape | None = Field(default=None, description="Until it is ok, the other probes wait.")
    resources: ResourcesShape = Field(default_factory=ResourcesShape, description="Limits of an instance.")
    isolation: Literal["none", "namespaces"] = Field(
        default="none", description="namespaces: refused where the machine does not allow them (spinyard doctor tells)."
    )
    termination_grace_period_seconds: Annotated[Duration, Field(le=86400)] = Field(
        default=_TEMPLATE.termination_grace_seconds, description="Time between SIGTERM and SIGKILL."
    )
    bootstrap: Annotated[list[BootstrapShape], Field(max_length=64)] = Field(
        default_factory=list, description="Steps run in order in each instance before its program starts."
    )
    smoke_test: SmokeTestShape | None = Field(default=None, description="Run once when ready, before any request.")
    data_directories: Annotated[list[DataDirectoryShape], Field(max_length=32)] = Field(
        default_factory=list, description="Directories made for the program."
    )
    drain: DrainShape = Field(default_factory=DrainShape, description="How an instance leaves.")
    start_timeout_seconds: Annotated[Duration, Field(ge=0.1, le=86400)] = Field(
        default=_TEMPLATE.start_timeout_seconds, description="An instance that is not ready after this time has failed."
    )
    queue_timeout_seconds: Annotated[Duration, Field(ge=0.1)] = Field(
        default=_TEMPLATE.queue_timeout_seconds, description="How long it may wait for quota and dependencies."
    )
    failed_ttl_seconds: Duration = Field(
        default=_TEMPLATE.failed_ttl_seconds,
        alias="failedTTLSeconds",
        description="How long record and logs of a failure stay.",
    )
    provider: Literal["process", "fake"] = Field(default="process", description="What runs it; fake is for trials.")
    annotations: Annotated[dict[LabelKey, str], Field(max_length=256)] = Field(
        default_factory=dict, description="Free text by key; a change makes a new version of the template."
    )


# -- objects ---------------------------------------------------------------------------------------------------------


class MetadataShape(Shape):
    """What the server fills in (uid and the like) is accepted and ignored, so that what was got can be applied."""

    name: Label = Field(description="Unique among objects of this kind in the namespace.")
    namespace: Label = Field(default="default", description="A room for names.")
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=256)] = Field(
        default_factory=dict, description="Selected with -l."
    )
    annotations: Annotated[dict[LabelKey, str], Field(max_length=256)] = Field(
        default_factory=dict, description="Free text."
    )
    uid: object = Field(default=None, description="Set by the server, ignored here.")
    generation: object = Field(default=None, description="Set by the server, ignored here.")
    resource_version: object = Field(default=None, description="Set by the server, ignored here.")
    creation_timestamp: object = Field(default=None, description="Set by the server, ignored here.")
    deletion_timestamp: object = Field(default=None, description="Set by the server, ignored here.")
    owner_references: object = Field(default=None, description="Set by the server, ignored here.")
    finalizers: object = Field(default=None, description="Set by the server, ignored here.")


class TemplateRefShape(Shape):
    name: Label = Field(description="Name of a Template in the same namespace.")


class DependencyShape(Shape):
    kind: Literal["Service", "Job"] = Field(
        default="Service", description="A Service that is available, a Job that succeeded."
    )
    name: Label = Field(description="Its name, in the same namespace.")


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


Dependencies = Annotated[list[Annotated[DependencyShape, BeforeValidator(_named)]], Field(max_length=256)]


class RouteShape(Shape):
    hosts: Annotated[list[Host], Field(min_length=1, max_length=64)] = Field(
        description='Host names that lead here; "*.example.com" and "*" are allowed.'
    )
    path_prefix: UrlPath = Field(default=_ROUTE.path_prefix, description="Only paths that begin so.")
    port: PortReference = Field(default="", description="Name (or fixed number) of a port; default: the first.")
    timeout_seconds: Duration = Field(default=_ROUTE.timeout_seconds, description="Limit of a request; 0: none.")
    protocol: Literal["http1", "http2", "grpc"] = Field(
        default="http1", description="What the program speaks; grpc is http2 by another name."
    )


class RollingUpdateShape(Shape):
    max_surge: Share = Field(default=_UPDATE.max_surge, description="Instances above replicas while replacing.")
    max_unavailable: Share = Field(
        default=_UPDATE.max_unavailable, description="Instances below replicas while replacing."
    )
    progress_deadline_seconds: Annotated[Duration, Field(ge=0.1, le=86400)] = Field(
        default=_UPDATE.progress_deadline_seconds,
        description="Without progress for this long the new version is given up.",
    )


class UpdateShape(Shape):
    rolling_update: RollingUpdateShape = Field(default_factory=RollingUpdateShape, description="One after the other.")


class EndpointShape(Shape):
    address: Address = Field(description="IP address or host name.")
    port: PortNumber = Field(description="Port number.")


class ExternalShape(Shape):
    endpoints: Annotated[list[EndpointShape], Field(min_length=1, max_length=1000)] = Field(
        description="Where it answers."
    )
    readiness_probe: ProbeShape | None = Field(default=None, description="Endpoints that fail it get no requests.")


class WorkShape(Shape):
    owner: Annotated[str, Field(max_length=253)] = Field(
        default="", description="Who answers for it: a team or person."
    )
    template: TemplateShape | None = Field(default=None, description="How an instance is made.")
    template_ref: TemplateRefShape | None = Field(default=None, description="A Template by name, instead of template.")
    depends_on: Dependencies = Field(default_factory=list, description="Started only when these are available.")
    ttl: Annotated[Duration, Field(ge=1)] | None = Field(default=None, description="Deleted by itself after this time.")


class ServiceSpecShape(WorkShape):
    replicas: int = Field(default=1, ge=0, le=10_000, description="How many instances.")
    route: RouteShape | None = Field(default=None, description="Which requests of the gateway come here.")
    update: UpdateShape = Field(default_factory=UpdateShape, description="How instances are replaced.")
    rollout: RolloutShape | None = Field(
        default=None, description="How requests move to another template, and what it is judged by; needs a route."
    )
    external: ExternalShape | None = Field(
        default=None, description="Something that runs elsewhere, instead of template."
    )
    restarted_at: Timestamp = Field(default=0.0, description="Set by `spinyard restart`.")


class NamedTemplateSpecShape(TemplateShape):
    owner: Annotated[str, Field(max_length=253)] = Field(
        default="", description="Who answers for it: a team or person."
    )


class ObjectShape(Shape):
    api_version: Literal["spinyard.dev/v1"] = Field(description="Always spinyard.dev/v1.")
    metadata: MetadataShape = Field(description="Name and labels.")
    status: object = Field(default=None, description="Set by the server, ignored here.")


class ServiceShape(ObjectShape):
    """A program, how many of it, and the requests that go to it."""

    kind: Literal["Service"] = Field(description="Service")
    spec: ServiceSpecShape = Field(description="What is wanted.")


class TemplateObjectShape(ObjectShape):
    """A named way to make an instance."""

    kind: Literal["Template"] = Field(description="Template")
    spec: NamedTemplateSpecShape = Field(description="What is wanted.")
