"""The wishes of the pretended users: services, jobs and templates that differ by a number, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from spinyard.core.ids import Digest
from spinyard.core.spec import (
    BootstrapStep,
    ClaimSpec,
    DataDirectory,
    DirectoryScope,
    Exec,
    HttpGet,
    JobSpec,
    OnClaim,
    PoolWindow,
    Port,
    Probe,
    RollingUpdate,
    Route,
    ServiceSpec,
    SmokeTest,
    TemplateSpec,
    WarmPoolSpec,
    digest_of,
)
from spinyard.testing.simulation.chance import Chance

PROBE = Probe(http_get=HttpGet(), period_seconds=1.0)
HOOKS = ("hook-ok", "hook-ok", "hook-ok", "hook-ok", "hook-fails", "hook-hangs")


def template(chance: Chance, sort: str, version: int) -> TemplateSpec:
    """`sort`: serve (good), never (does not get ready), exit (ends at once), step (a bootstrap step fails)."""
    command = ("exit", "3") if sort == "exit" else (sort, f"v{version}")
    if sort == "step":
        command = ("serve", f"v{version}")
    steps = tuple(BootstrapStep(f"step{n}", ("exit", "0", str(n)), 10.0) for n in range(chance.below(3)))
    if sort == "step":
        steps += (BootstrapStep("bad", ("exit", "1"), 10.0),)
    directories = tuple(
        DataDirectory(name, scope, env=name.upper(), retain=scope is DirectoryScope.SERVICE and chance.happens(0.5))
        for name, scope in (("own", DirectoryScope.SPIN), ("shared", DirectoryScope.SERVICE))
        if chance.happens(0.4)
    )
    probe = PROBE if chance.happens(0.8) or sort == "never" else None
    return TemplateSpec(
        command=command,
        ports=tuple(Port(name) for name in ("http", "admin")[: 1 + chance.below(2)]),
        readiness_probe=probe,
        liveness_probe=PROBE if chance.happens(0.2) else None,
        startup_probe=replace(PROBE, failure_threshold=8) if chance.happens(0.2) else None,
        smoke_test=SmokeTest(http_get=HttpGet(), timeout_seconds=2.0)
        if probe is not None and chance.happens(0.3)
        else None,
        bootstrap=steps,
        data_directories=directories,
        termination_grace_seconds=2.0,
        drain_timeout_seconds=5.0,
        start_timeout_seconds=8.0,
        queue_timeout_seconds=30.0,
        provider="fake",
    )


def service(chance: Chance, name: str, digest: Digest) -> ServiceSpec:
    surge, unavailable = chance.choose(((1, 0), (1, 0), (0, 1), (2, 1)))
    return ServiceSpec(
        replicas=chance.choose((0, 1, 1, 2, 3, 5)),
        template_digest=digest,
        route=route(name, 0) if chance.happens(0.8) else None,
        update=RollingUpdate(max_surge=surge, max_unavailable=unavailable, progress_deadline_seconds=20.0),
        ttl_seconds=chance.between(20.0, 60.0) if chance.happens(0.1) else None,
    )


def route(name: str, version: int) -> Route:
    return Route(hosts=(f"{name}-{version}.localhost",))


def job(chance: Chance, code: int) -> tuple[TemplateSpec, JobSpec]:
    made = TemplateSpec(
        command=("exit", str(code), str(chance.below(3))),
        termination_grace_seconds=2.0,
        start_timeout_seconds=8.0,
        queue_timeout_seconds=30.0,
        ports=(Port("http"),) if chance.happens(0.3) else (),
        provider="fake",
    )
    ttl = chance.between(5.0, 20.0) if chance.happens(0.3) else None
    return made, JobSpec(
        template_digest=digest_of(made), retries=chance.below(3), timeout_seconds=30.0, ttl_seconds=ttl
    )


def member_template(chance: Chance, sort: str, version: int) -> TemplateSpec:
    """Of a pool: nothing is shared or retained."""
    made = template(chance, sort, version)
    own = tuple(d for d in made.data_directories if d.scope is DirectoryScope.SPIN)
    return replace(made, data_directories=own)


def pool(chance: Chance, name: str, digest: Digest) -> WarmPoolSpec:
    least = chance.below(4)
    most = min(5, max(1, least) + chance.below(3))
    windows: tuple[PoolWindow, ...] = ()
    if chance.happens(0.25):
        other = chance.below(3)
        windows = (PoolWindow("*/2 * * * *", chance.between(20.0, 100.0), other, max(1, other) + chance.below(3)),)
    hook = OnClaim(exec=Exec((chance.choose(HOOKS),)), timeout_seconds=chance.choose((0.5, 5.0)))
    return WarmPoolSpec(
        template_digest=digest,
        min=least,
        max=most,
        windows=windows,
        max_idle_seconds=chance.between(2.0, 20.0) if chance.happens(0.4) else None,
        freshness_seconds=chance.between(10.0, 40.0) if chance.happens(0.3) else None,
        replace_stale=chance.happens(0.8),
        host_suffix=f"{name}.localhost" if chance.happens(0.75) else "",
        on_claim=hook if chance.happens(0.5) else None,
    )


def claim(chance: Chance, pool: str) -> ClaimSpec:
    return ClaimSpec(
        pool=pool,
        env=(("A", str(chance.below(9))),) if chance.happens(0.5) else (),
        files=tuple((f"file{n}", f"content {chance.below(9)}") for n in range(chance.below(3))),
        ttl_seconds=chance.between(3.0, 40.0) if chance.happens(0.6) else None,
        wait_seconds=chance.between(1.0, 20.0) if chance.happens(0.5) else 0.0,
    )
