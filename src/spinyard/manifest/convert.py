"""From the published shape to `core.spec`. Runs only on what has no problem; decides nothing but defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from spinyard.core.ids import Digest
from spinyard.core.spec import (
    BootstrapStep,
    ClaimSpec,
    DataDirectory,
    Dependency,
    DirectoryScope,
    EnvVar,
    Exec,
    External,
    ExternalEndpoint,
    Grpc,
    HttpGet,
    Isolation,
    JobSpec,
    Kind,
    Limits,
    NamedTemplateSpec,
    OnClaim,
    PoolWindow,
    Port,
    Probe,
    RollingUpdate,
    Route,
    ServiceSpec,
    SmokeTest,
    TcpSocket,
    TemplateSpec,
    WarmPoolSpec,
    digest_of,
)
from spinyard.manifest import job_shapes, pool_shapes, shapes
from spinyard.manifest.kinds import AnyShape
from spinyard.manifest.objects import WrittenSpec
from spinyard.manifest.rollout_convert import strategy
from spinyard.manifest.spinout_convert import spinout
from spinyard.manifest.spinout_shapes import SpinoutShape


@dataclass(frozen=True, slots=True)
class Converted:
    kind: Kind
    spec: WrittenSpec
    templates: Mapping[Digest, TemplateSpec]
    template_ref: str = ""


def convert(shape: AnyShape) -> Converted:
    match shape:
        case shapes.ServiceShape():
            return _service(shape.spec)
        case job_shapes.JobShape():
            return _job(shape.spec)
        case shapes.TemplateObjectShape():
            templates, digest = _stored(shape.spec)
            return Converted(Kind.TEMPLATE, NamedTemplateSpec(shape.spec.owner, digest), templates)
        case pool_shapes.WarmPoolShape():
            return _pool(shape.spec)
        case pool_shapes.ClaimShape():
            return Converted(Kind.CLAIM, _claim(shape.spec), {})
        case SpinoutShape():
            return Converted(Kind.SPINOUT, spinout(shape.spec), {})
        case _:
            assert_never(shape)


def _stored(shape: shapes.TemplateShape | None) -> tuple[dict[Digest, TemplateSpec], Digest]:
    if shape is None:
        return {}, Digest("")
    spec = template(shape)
    digest = digest_of(spec)
    return {digest: spec}, digest


def _service(shape: shapes.ServiceSpecShape) -> Converted:
    templates, digest = _stored(shape.template)
    ref = shape.template_ref.name if shape.template_ref else ""
    numbers = _port_names(shape.template)
    spec = ServiceSpec(
        owner=shape.owner,
        replicas=shape.replicas,
        template_digest=digest,
        template_ref=ref,
        external=_external(shape.external) if shape.external else None,
        route=_route(shape.route, numbers) if shape.route else None,
        update=_update(shape),
        depends_on=_dependencies(shape),
        ttl_seconds=shape.ttl,
        restarted_at=shape.restarted_at,
        strategy=strategy(shape.rollout) if shape.rollout else None,
    )
    return Converted(Kind.SERVICE, spec, templates, ref)


def _job(shape: job_shapes.JobSpecShape) -> Converted:
    templates, digest = _stored(shape.template)
    ref = shape.template_ref.name if shape.template_ref else ""
    spec = JobSpec(
        owner=shape.owner,
        template_digest=digest,
        template_ref=ref,
        retries=shape.retries,
        timeout_seconds=shape.timeout_seconds,
        depends_on=_dependencies(shape),
        ttl_seconds=shape.ttl,
        pool=shape.pool or "",
        command=tuple(shape.command),
        args=tuple(shape.args),
        env=tuple((item.name, item.value) for item in shape.env),
        files=tuple((item.name, item.content) for item in shape.files),
    )
    return Converted(Kind.JOB, spec, templates, ref)


def _pool(shape: pool_shapes.WarmPoolSpecShape) -> Converted:
    templates, digest = _stored(shape.template)
    ref = shape.template_ref.name if shape.template_ref else ""
    numbers = _port_names(shape.template)
    spec = WarmPoolSpec(
        owner=shape.owner,
        template_digest=digest,
        template_ref=ref,
        min=shape.min,
        max=shape.max,
        windows=tuple(PoolWindow(item.cron, item.duration, item.min, item.max) for item in shape.schedule),
        max_idle_seconds=shape.max_idle,
        freshness_seconds=shape.freshness,
        replace_stale=shape.update_strategy == "Recreate",
        host_suffix=shape.host_suffix or "",
        route_port=numbers.get(shape.port, shape.port),
        on_claim=_on_claim(shape.on_claim, numbers),
    )
    return Converted(Kind.WARM_POOL, spec, templates, ref)


def _on_claim(shape: pool_shapes.OnClaimShape | None, numbers: Mapping[str, str]) -> OnClaim | None:
    if shape is None:
        return None
    return OnClaim(
        exec=Exec(tuple(shape.exec.command)) if shape.exec else None,
        http_get=_http_get(shape.http_get, numbers) if shape.http_get else None,
        timeout_seconds=shape.timeout_seconds,
    )


def _claim(shape: pool_shapes.ClaimSpecShape) -> ClaimSpec:
    return ClaimSpec(
        pool=shape.pool,
        owner=shape.owner,
        env=tuple((item.name, item.value) for item in shape.env),
        files=tuple((item.name, item.content) for item in shape.files),
        ttl_seconds=shape.ttl,
        wait_seconds=shape.wait,
    )


def _dependencies(shape: shapes.WorkShape) -> tuple[Dependency, ...]:
    return tuple(Dependency(Kind(item.kind), item.name) for item in shape.depends_on)


def _route(shape: shapes.RouteShape, numbers: Mapping[str, str]) -> Route:
    return Route(
        hosts=tuple(shape.hosts),
        path_prefix=shape.path_prefix,
        port=numbers.get(shape.port, shape.port),
        timeout_seconds=shape.timeout_seconds,
        http2=shape.protocol != "http1",
    )


def _update(service: shapes.ServiceSpecShape) -> RollingUpdate:
    """Percentages as Kubernetes rounds them: surge up, unavailable down; never both 0, or nothing could move.

    With a fixed port the default is to stop the old instance first: two cannot open it.
    """
    shape = service.update.rolling_update
    surge = _count(shape.max_surge, service.replicas, up=True)
    unavailable = _count(shape.max_unavailable, service.replicas, up=False)
    fixed = service.template is not None and any(item.number or item.container_port for item in service.template.ports)
    if fixed and "max_surge" not in shape.model_fields_set:
        surge = 0
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return RollingUpdate(surge, unavailable, shape.progress_deadline_seconds)


def _count(share: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(share, int):
        return share
    hundredfold = int(share.removesuffix("%")) * replicas
    return -(-hundredfold // 100) if up else hundredfold // 100


def _external(shape: shapes.ExternalShape) -> External:
    return External(
        endpoints=tuple(ExternalEndpoint(item.address, item.port) for item in shape.endpoints),
        readiness_probe=_probe(shape.readiness_probe, {}),
    )


# -- template --------------------------------------------------------------------------------------------------------


def template(shape: shapes.TemplateShape) -> TemplateSpec:
    numbers = _port_names(shape)
    limits = shape.resources.limits
    return TemplateSpec(
        command=tuple(shape.command),
        args=tuple(shape.args),
        working_dir=shape.working_dir,
        env=tuple(_env(item) for item in shape.env),
        ports=tuple(Port(item.name, item.number or item.container_port or 0) for item in shape.ports),
        readiness_probe=_probe(shape.readiness_probe, numbers),
        liveness_probe=_probe(shape.liveness_probe, numbers),
        startup_probe=_probe(shape.startup_probe, numbers),
        limits=Limits(limits.memory, limits.cpu, limits.open_files, limits.processes, limits.log),
        isolation=Isolation(shape.isolation),
        termination_grace_seconds=shape.termination_grace_period_seconds,
        bootstrap=tuple(
            BootstrapStep(step.name, tuple(step.command), step.timeout_seconds) for step in shape.bootstrap
        ),
        smoke_test=_smoke_test(shape.smoke_test, numbers),
        data_directories=tuple(
            DataDirectory(item.name, DirectoryScope(item.scope), item.env or "", item.retain)
            for item in shape.data_directories
        ),
        drain_timeout_seconds=shape.drain.timeout_seconds,
        start_timeout_seconds=shape.start_timeout_seconds,
        queue_timeout_seconds=shape.queue_timeout_seconds,
        failed_ttl_seconds=shape.failed_ttl_seconds,
        provider=shape.provider,
        annotations=tuple(sorted(shape.annotations.items())),
    )


def _port_names(shape: shapes.TemplateShape | None) -> dict[str, str]:
    """What a probe or route may say beside a name, to the name: a fixed number, or nothing for the first port."""
    if shape is None or not shape.ports:
        return {}
    numbers = {str(number): item.name for item in shape.ports if (number := item.number or item.container_port)}
    return {"": shape.ports[0].name, **numbers}


def _env(shape: shapes.EnvShape) -> EnvVar:
    source = shape.value_from
    if source is None:
        return EnvVar(shape.name, shape.value or "")
    return EnvVar(
        shape.name,
        from_file=source.file or "",
        from_variable=source.variable or "",
        secret_file=source.secret_file or "",
    )


def _http_get(shape: shapes.HttpGetShape, numbers: Mapping[str, str]) -> HttpGet:
    return HttpGet(
        path=shape.path,
        port=numbers.get(shape.port, shape.port),
        host=shape.host,
        scheme=shape.scheme.lower(),
        headers=tuple((item.name, item.value) for item in shape.http_headers),
    )


def _probe(shape: shapes.ProbeShape | None, numbers: Mapping[str, str]) -> Probe | None:
    if shape is None:
        return None
    tcp, grpc = shape.tcp_socket, shape.grpc
    return Probe(
        http_get=_http_get(shape.http_get, numbers) if shape.http_get else None,
        tcp_socket=TcpSocket(numbers.get(tcp.port, tcp.port)) if tcp else None,
        grpc=Grpc(numbers.get(grpc.port, grpc.port), grpc.service) if grpc else None,
        exec=Exec(tuple(shape.exec.command)) if shape.exec else None,
        initial_delay_seconds=shape.initial_delay_seconds,
        period_seconds=shape.period_seconds,
        timeout_seconds=shape.timeout_seconds,
        success_threshold=shape.success_threshold,
        failure_threshold=shape.failure_threshold,
    )


def _smoke_test(shape: shapes.SmokeTestShape | None, numbers: Mapping[str, str]) -> SmokeTest | None:
    if shape is None:
        return None
    return SmokeTest(
        http_get=_http_get(shape.http_get, numbers) if shape.http_get else None,
        exec=Exec(tuple(shape.exec.command)) if shape.exec else None,
        timeout_seconds=shape.timeout_seconds,
    )
