"""Rows and answers as a decision may meet them: any state, any status, any of the answers to what it looks at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import strategies as st

from spinyard.core.ids import Digest, ResourceKey, Uid
from spinyard.core.observed import (
    Absent,
    Answer,
    ChildBrief,
    ChildFailure,
    ChildGroup,
    Children,
    DirectoryFacts,
    EndpointFacts,
    Failure,
    Held,
    Look,
    LookChildren,
    LookHold,
    LookObject,
    LookPool,
    LookProbe,
    LookResource,
    LookStarts,
    LookWatch,
    ObjectBrief,
    PoolView,
    Present,
    ProbeAnswer,
    ProbeResult,
    ProcessFacts,
    RouteFacts,
    Seen,
    StartRecord,
    Starts,
    Trial,
    Unknown,
)
from spinyard.core.plan import Reservation, Resource
from spinyard.core.row import ObjectRow
from spinyard.core.spec import (
    BootstrapStep,
    ClaimPart,
    ClaimSpec,
    DataDirectory,
    DirectoryScope,
    Errand,
    Exec,
    HttpGet,
    JobSpec,
    Kind,
    OnClaim,
    PoolWindow,
    Port,
    Probe,
    RollingUpdate,
    RolloutPart,
    Route,
    ServiceSpec,
    SmokeTest,
    SpinSpec,
    TemplateSpec,
    WarmPoolSpec,
    digest_of,
)
from spinyard.core.want import EndpointState
from spinyard.errors import ErrorClass
from spinyard.spin.claim.status import ClaimState, ClaimStatus
from spinyard.spin.job.status import JobState, JobStatus
from spinyard.spin.pool.status import PoolState, PoolStatus
from spinyard.spin.service.status import Cut, Left, ServiceState, ServiceStatus, Shown
from spinyard.spin.snapshot import ProviderFacts, SpinRules
from spinyard.spin.status import SpinStatus, State, encode_status

NOW = 1_800_000_000.0
RULES = SpinRules({"fake": ProviderFacts("host:fake", (20_000, 20_100), 3.0)})
UID = Uid("bcdfghjkmnpqrstvwxz2")
PROBE = Probe(http_get=HttpGet())
PART = ClaimPart("claim", "mine", "mine.test", (("A", "b"),), (("f", "x"),), OnClaim(exec=Exec(("hook",))))
ERRAND_PART = replace(PART, host="", errand=Errand(("work", "hard"), 30.0))

seconds = st.sampled_from((0.0, 0.01, 0.5, 5.0, 100.0, 10_000.0, -5.0))
small = st.integers(0, 9)

templates = st.builds(
    TemplateSpec,
    command=st.just(("serve",)),
    ports=st.sampled_from(((), (Port("http"),), (Port("http"), Port("admin", 9000)))),
    readiness_probe=st.sampled_from((None, PROBE)),
    liveness_probe=st.sampled_from((None, PROBE)),
    startup_probe=st.sampled_from((None, PROBE)),
    smoke_test=st.sampled_from((None, SmokeTest(http_get=HttpGet()))),
    bootstrap=st.sampled_from(((), (BootstrapStep("one", ("exit", "0")),))),
    data_directories=st.sampled_from(
        ((), (DataDirectory("own"), DataDirectory("shared", DirectoryScope.SERVICE, retain=True)))
    ),
    provider=st.just("fake"),
)
failures = st.builds(
    Failure,
    error_class=st.sampled_from([str(one) for one in ErrorClass]),
    message=st.just("no"),
    retryable=st.booleans(),
    retry_after_seconds=st.sampled_from((None, 2.0)),
)
processes = st.one_of(
    st.just(ProcessFacts(running=True, pid=7)),
    st.builds(
        ProcessFacts,
        running=st.just(False),
        exit_code=st.sampled_from((None, 0, 1)),
        exit_signal=st.sampled_from((None, 9)),
        error_class=st.sampled_from(("", "OutOfMemory", "nobody knows this one")),
        error=st.sampled_from(("", "timeout", "broke")),
    ),
)
endpoints = st.builds(
    EndpointFacts,
    acknowledged=st.booleans(),
    healthy=st.booleans(),
    active_requests=st.sampled_from((0, 3)),
    rejected=st.sampled_from(("", "no such thing")),
    state=st.sampled_from(("", *map(str, EndpointState))),
)


@st.composite
def resources(draw: st.DrawFn, parts: tuple[tuple[str, str], ...]) -> tuple[Resource, ...]:
    out = []
    for part, kind in parts:
        if draw(st.booleans()):
            provider = "proxy" if kind in ("endpoint", "route") else "fake"
            wanted = draw(st.booleans())
            absent_at = None if wanted else draw(st.sampled_from((None, NOW - 1.0, NOW - 100.0)))
            key = ResourceKey(f"{UID}/{part}")
            out.append(Resource(key, UID, provider, kind, wanted, None, draw(st.sampled_from((0.0, 3.0))), absent_at))
    return tuple(out)


start_records = st.builds(
    StartRecord,
    uid=st.sampled_from((Uid("a"), Uid("b"))),
    created_at=st.sampled_from((NOW - 400.0, NOW - 40.0)),
    at=st.sampled_from((NOW - 390.0, NOW - 20.0, NOW + 3600.0)),
    failed=st.sampled_from((True, True, True, False)),
    outcome=st.sampled_from(("ProcessExited", "OutOfMemory")),
    trial=st.sampled_from((0, 0, 0, 2)),
)
starts = st.builds(
    Starts,
    st.lists(start_records, max_size=10).map(lambda found: tuple(sorted(found, key=lambda record: -record.at))),
    st.one_of(
        st.none(),
        st.none(),
        st.builds(Trial, st.just(UID), st.just(Uid("a")), st.booleans(), st.sampled_from((None, NOW - 3.0))),
    ),
)


@st.composite
def answers(draw: st.DrawFn, looks: tuple[Look, ...], *, unknown: bool = False) -> dict[Look, Answer]:
    return {look: draw(_answer(look, unknown)) for look in looks}


def _answer(look: Look, unknown: bool) -> st.SearchStrategy[Any]:
    match look:
        case LookResource(key=key):
            return st.just(Unknown("silence")) if unknown else st.one_of(
                st.just(Absent()), st.just(Unknown("silence")), _facts(key).map(Present)
            )  # fmt: skip
        case LookProbe() | LookWatch():
            return st.builds(ProbeResult, st.sampled_from(ProbeAnswer), st.just("so"))
        case LookChildren():
            return children
        case LookObject():
            return st.one_of(st.none(), st.builds(ObjectBrief, st.just(UID), st.just("available"), st.booleans()))
        case LookPool():
            return st.one_of(st.none(), pool_views)
        case LookHold():
            until = st.sampled_from((None, NOW + 30.0))
            held = until.map(lambda at: Held("everything", "a freeze", "alice", NOW - 9, at))
            return st.one_of(st.none(), st.none(), held)
        case LookStarts():
            return starts
    raise NotImplementedError(look)


def _facts(key: str) -> st.SearchStrategy[Any]:
    part = key.split("/", 1)[1]
    if part.startswith("endpoint"):
        return endpoints
    if part.startswith("route"):
        return st.builds(RouteFacts, st.booleans())
    if part.startswith("dir"):
        return st.just(DirectoryFacts("/there"))
    return processes


@st.composite
def spins(draw: st.DrawFn) -> ObjectRow:
    template = draw(templates)
    status = SpinStatus(
        since=NOW - draw(seconds),
        attempts=draw(small),
        retry_at=NOW + draw(seconds),
        step=draw(st.integers(0, len(template.bootstrap))),
        started=draw(st.booleans()),
        probed=draw(st.booleans()),
        smoke_passed=draw(st.booleans()),
        stuck=draw(st.booleans()),
        unknown=draw(st.booleans()),
        claim_step=draw(st.integers(0, 3)),
        errand_seen=draw(st.booleans()),
    )
    reserved = tuple(
        Reservation("ports/host:fake", f"port/{port.name}", 1, 20_001) for port in template.ports if draw(st.booleans())
    )
    parts = (("process", "process"), ("endpoint", "endpoint"), ("step-0", "process"), ("dir/own", "directory"))
    parts += (("command", "process"),)
    outcome = draw(st.sampled_from(("", "ProbeFailed")))
    state = draw(st.sampled_from([str(state) for state in State]))
    held = draw(resources(parts))
    routed = state in ("registering", "serving", "draining")
    endpoint = ResourceKey(f"{UID}/endpoint")
    if routed and endpoint not in {resource.key for resource in held}:
        held += (Resource(endpoint, UID, "proxy", "endpoint", True),)
    return ObjectRow(
        uid=UID,
        kind=Kind.SPIN,
        namespace="default",
        name="web-1",
        spec=draw(
            st.builds(
                SpinSpec,
                template_digest=st.just(digest_of(template)),
                cluster=st.just("default/web") if routed else st.sampled_from(("", "default/web")),
                ttl_seconds=st.sampled_from((None, 1.0, 1e6)),
                pool_uid=st.just("pool"),
                claim=st.sampled_from((None, PART, ERRAND_PART)),
            )
            if draw(st.booleans())
            else st.builds(
                SpinSpec,
                template_digest=st.just(digest_of(template)),
                cluster=st.just("default/web") if routed else st.sampled_from(("", "default/web")),
                run_to_exit=st.booleans(),
                service_uid=st.sampled_from(("", "someone")),
                ttl_seconds=st.sampled_from((None, 1.0, 1e6)),
            )
        ),
        status=encode_status(status),
        state=state,
        created_at=NOW - 50.0,
        template=template,
        template_digest=digest_of(template),
        delete_at=draw(st.sampled_from((None, NOW - 5.0))),
        force=draw(st.booleans()),
        resources=held,
        reservations=reserved,
        outcome=outcome,
        failed_at=NOW - 3.0 if outcome else None,
        served_at=draw(st.sampled_from((None, NOW - 20.0))),
    )


OLD, NEW = Digest("sha256:old"), Digest("sha256:new")
CACHE = DataDirectory("cache", DirectoryScope.SERVICE)
SIDE = RolloutPart("rollout", "web-1", OLD, "side", 3, 2, 500, probe=PROBE, directories=(CACHE,))


@st.composite
def _groups(draw: st.DrawFn) -> tuple[ChildGroup, ...]:
    out = []
    number = 0
    for state in draw(st.lists(st.sampled_from([str(s) for s in State if s != State.TERMINATED]), max_size=5)):
        digest, deleting, count = draw(st.sampled_from((OLD, NEW))), draw(st.booleans()), draw(st.integers(1, 4))
        oldest = tuple(
            ChildBrief(Uid(f"child-{number + n}"), str(number + n), state, digest, deleting, NOW - draw(seconds))
            for n in range(count)
        )
        number += count
        out.append(ChildGroup(state, digest, deleting, count, oldest))
    return tuple({(g.state, g.template_digest, g.deleting): g for g in out}.values())


children: st.SearchStrategy[Children] = st.builds(
    Children,
    groups=_groups(),
    failures=st.lists(
        st.builds(
            ChildFailure,
            uid=st.just(UID),
            template_digest=st.sampled_from((OLD, NEW)),
            failed_at=st.sampled_from((NOW - 1.0, NOW - 3.0)),
            served_at=st.sampled_from((None, NOW - 2.0)),
            outcome=st.sampled_from(("ProbeFailed", "ProcessExited")),
            message=st.just("it failed"),
        ),
        max_size=6,
    ).map(tuple),
    highest_slot=st.integers(-1, 30),
    finished=small,
    succeeded=st.integers(0, 1),
)


@st.composite
def services(draw: st.DrawFn) -> ObjectRow:
    template = draw(templates)
    spec = ServiceSpec(
        replicas=draw(st.integers(0, 5)),
        template_digest=NEW,
        route=draw(st.sampled_from((None, Route(("web",))))),
        update=RollingUpdate(*draw(st.sampled_from(((1, 0), (0, 1), (2, 1)))), 20.0),
        ttl_seconds=draw(st.sampled_from((None, 1.0, 1e6))),
        restarted_at=draw(st.sampled_from((0.0, NOW - 10.0))),
        side=draw(st.sampled_from(("", "side"))),
        rollout=draw(st.sampled_from((None, SIDE, replace(SIDE, replicas=0, weight=0)))),
    )
    status = ServiceStatus(
        since=NOW - draw(seconds),
        target=draw(st.sampled_from(("", OLD, NEW))),
        good=draw(st.sampled_from(("", OLD, NEW))),
        given_up=draw(st.sampled_from(("", NEW))),
        progressed_at=NOW - draw(seconds),
        stuck=draw(st.booleans()),
        wiring=draw(st.sampled_from(("", "none"))),
        shown=draw(st.sampled_from((None, Shown("rollout", template_digest=OLD, side="side"), Shown("another")))),
        cuts=draw(st.sampled_from(({}, {OLD: (Cut(2, Left.ABANDONED),), NEW: (Cut(1, Left.HERE),)}))),
    )
    parts = (("route", "route"), ("dir/shared", "directory"))
    return ObjectRow(
        uid=UID,
        kind=Kind.SERVICE,
        namespace="default",
        name="web",
        spec=spec,
        status=msgspec.json.encode(status),
        state=draw(st.sampled_from([str(state) for state in ServiceState])),
        created_at=NOW - 50.0,
        template=template,
        template_digest=NEW,
        delete_at=draw(st.sampled_from((None, NOW - 5.0))),
        force=draw(st.booleans()),
        paused=draw(st.booleans()),
        resources=draw(resources(parts)),
    )


@st.composite
def jobs(draw: st.DrawFn) -> ObjectRow:
    spec = JobSpec(template_digest=NEW, retries=draw(small), ttl_seconds=draw(st.sampled_from((None, 1.0))))
    if draw(st.booleans()):
        spec = replace(spec, template_digest=Digest(""), pool="box", pool_uid="pool", command=("work",))
    status = JobStatus(since=NOW - draw(seconds), attempt=draw(small), finished_at=NOW - draw(seconds))
    return ObjectRow(
        uid=UID,
        kind=Kind.JOB,
        namespace="default",
        name="job",
        spec=spec,
        status=msgspec.json.encode(status),
        state=draw(st.sampled_from([str(state) for state in JobState])),
        created_at=NOW - 50.0,
        delete_at=draw(st.sampled_from((None, NOW - 5.0))),
    )


@st.composite
def pool_specs(draw: st.DrawFn) -> WarmPoolSpec:
    low, high = draw(st.integers(0, 3)), draw(st.integers(1, 5))
    window = PoolWindow(draw(st.sampled_from(("* * * * *", "0 0 1 1 *", "0 0 29 2 *"))), 90.0, 1, draw(small))
    return WarmPoolSpec(
        template_digest=NEW,
        min=low,
        max=max(low, high),
        windows=draw(st.sampled_from(((), (window,)))),
        max_idle_seconds=draw(st.sampled_from((None, 0.0, 30.0))),
        freshness_seconds=draw(st.sampled_from((None, 1.0, 1e6))),
        replace_stale=draw(st.booleans()),
        host_suffix=draw(st.sampled_from(("", "box.test"))),
    )


pool_views = st.builds(
    PoolView, uid=st.just(UID), spec=pool_specs(), deleting=st.booleans(), warm=small, held=small, waiting=small
)


@st.composite
def pools(draw: st.DrawFn) -> ObjectRow:
    status = PoolStatus(since=NOW - draw(seconds), spawned=draw(small), attempts=draw(small), asked=draw(small))
    return ObjectRow(
        uid=UID,
        kind=Kind.WARM_POOL,
        namespace="default",
        name="box",
        spec=draw(pool_specs()),
        status=msgspec.json.encode(status),
        state=draw(st.sampled_from([str(state) for state in PoolState])),
        created_at=NOW - 50.0,
        template=draw(templates),
        template_digest=NEW,
        delete_at=draw(st.sampled_from((None, NOW - 5.0))),
        force=draw(st.booleans()),
        paused=draw(st.booleans()),
        resources=draw(resources((("route", "route"),))),
    )


@st.composite
def claims(draw: st.DrawFn) -> ObjectRow:
    spec = ClaimSpec(
        pool="box",
        pool_uid="pool",
        expires_at=draw(st.sampled_from((None, NOW - 1.0, NOW, NOW + 5.0))),
        wait_seconds=draw(st.sampled_from((0.0, 1.0, 1e6))),
        host=draw(st.sampled_from(("", "mine.box.test"))),
    )
    status = ClaimStatus(since=NOW - draw(seconds), tries=draw(st.integers(0, 4)), cold=draw(st.booleans()))
    return ObjectRow(
        uid=UID,
        kind=Kind.CLAIM,
        namespace="default",
        name="mine",
        spec=spec,
        status=msgspec.json.encode(status),
        state=draw(st.sampled_from([str(state) for state in ClaimState])),
        created_at=NOW - draw(seconds),
        delete_at=draw(st.sampled_from((None, NOW - 5.0))),
        force=draw(st.booleans()),
    )


@st.composite
def met(draw: st.DrawFn, row: ObjectRow, looks: tuple[Look, ...], *, unknown: bool = False) -> Seen:
    """What a decision about `row` might see."""
    outcomes = {resource.key: draw(failures) for resource in row.resources if draw(st.integers(0, 4)) == 0}
    refused = draw(st.sampled_from(("", "", "no free number")))
    return Seen(draw(answers(looks, unknown=unknown)), outcomes, refused)
