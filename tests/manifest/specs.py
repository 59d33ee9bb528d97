"""Hypothesis strategies for specs as `load` makes them."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from spinyard.core.ids import Digest
from spinyard.core.spec import (
    BootstrapStep,
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
    Port,
    Probe,
    RollingUpdate,
    Route,
    ServiceSpec,
    SmokeTest,
    TcpSocket,
    TemplateSpec,
)

labels = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12)
port_names = labels.filter(lambda name: not name.isdigit())
variables = st.text(string.ascii_letters + "_", min_size=1, max_size=8).map(lambda name: f"X_{name}")
# Whatever YAML may mistake for something else, and everything printable and not.
texts = st.one_of(
    st.sampled_from(["yes", "no", "on", "null", "~", "true", "010", "0o7", "0x1f", "1e3", "1.5", ".inf", "12:30"]),
    st.sampled_from(["-", "a:b", "#x", "*a", "&a", "!t", "2026-01-31", "=", "${PORT}", "", "- a", "a: b", "\t", "<<"]),
    st.sampled_from(["a\nb\n", " a ", "\U0001f600", "\u2028", "\x85"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
)
paths = st.text(string.ascii_letters + "/._", max_size=12).map(lambda path: f"/{path}")
seconds = st.one_of(st.integers(1, 600).map(float), st.floats(0.05, 600, allow_nan=False))
commands = st.lists(texts, min_size=1, max_size=3).map(lambda words: ("run", *words))


@st.composite
def http_gets(draw: st.DrawFn, ports: tuple[str, ...]) -> HttpGet:
    headers = st.lists(st.tuples(st.sampled_from(["X-A", "Accept"]), labels), max_size=2).map(tuple)
    return HttpGet(draw(paths), draw(st.sampled_from(ports)), draw(labels), "http", draw(headers))


@st.composite
def probes(draw: st.DrawFn, ports: tuple[str, ...], *, is_readiness: bool = False) -> Probe:
    port = st.sampled_from(ports)
    action = draw(
        st.one_of(
            http_gets(ports).map(lambda action: {"http_get": action}),
            port.map(lambda name: {"tcp_socket": TcpSocket(name)}),
            st.tuples(port, labels).map(lambda both: {"grpc": Grpc(*both)}),
            commands.map(lambda words: {"exec": Exec(words)}),
        )
    )
    return Probe(
        **action,
        initial_delay_seconds=draw(seconds),
        period_seconds=draw(seconds),
        timeout_seconds=draw(seconds),
        success_threshold=draw(st.integers(1, 1000)) if is_readiness else 1,
        failure_threshold=draw(st.integers(1, 1000)),
    )


@st.composite
def env_vars(draw: st.DrawFn, name: str) -> EnvVar:
    source = draw(st.sampled_from(["value", "from_file", "from_variable", "secret_file"]))
    value = {"value": texts, "from_variable": variables}.get(source, paths)
    return EnvVar(name, **{source: draw(value)})


@st.composite
def templates(draw: st.DrawFn) -> TemplateSpec:
    names = tuple(draw(st.lists(port_names, min_size=1, max_size=3, unique=True)))
    taken = draw(st.lists(variables, max_size=3, unique=True))
    return TemplateSpec(
        command=draw(commands),
        args=tuple(draw(st.lists(texts, max_size=3))),
        working_dir=draw(st.one_of(st.just(""), paths)),
        env=tuple(draw(env_vars(name)) for name in taken),
        ports=tuple(Port(name) for name in names),
        readiness_probe=draw(st.none() | probes(names, is_readiness=True)),
        liveness_probe=draw(st.none() | probes(names)),
        startup_probe=draw(st.none() | probes(names)),
        limits=Limits(
            draw(st.none() | st.integers(1, 1 << 40)),
            draw(st.none() | st.floats(0.001, 4096)),
            draw(st.none() | st.integers(16, 1 << 20)),
            draw(st.none() | st.integers(1, 1 << 20)),
            draw(st.integers(4096, 1 << 40)),
        ),
        isolation=draw(st.sampled_from(Isolation)),
        termination_grace_seconds=draw(seconds),
        bootstrap=tuple(
            BootstrapStep(name, draw(commands), draw(seconds.filter(lambda value: value >= 0.1)))
            for name in draw(st.lists(labels, max_size=2, unique=True))
        ),
        smoke_test=draw(st.none() | st.builds(SmokeTest, http_get=http_gets(names), timeout_seconds=seconds)),
        data_directories=tuple(
            draw(
                st.sampled_from(
                    [DataDirectory(name), DataDirectory(name, DirectoryScope.SERVICE, f"D_{name.upper()}", True)]
                )
            )
            for name in draw(st.lists(labels, max_size=2, unique=True))
        ),
        drain_timeout_seconds=draw(seconds),
        start_timeout_seconds=draw(seconds.filter(lambda value: value >= 0.1)),
        queue_timeout_seconds=draw(seconds.filter(lambda value: value >= 0.1)),
        failed_ttl_seconds=draw(seconds),
        provider=draw(st.sampled_from(["process", "fake"])),
        annotations=tuple(sorted(draw(st.dictionaries(labels, texts, max_size=3)).items())),
    )


@st.composite
def dependencies(draw: st.DrawFn) -> tuple[Dependency, ...]:
    names = draw(st.lists(labels, max_size=3, unique=True))
    return tuple(Dependency(draw(st.sampled_from([Kind.SERVICE, Kind.JOB])), f"needed-{name}") for name in names)


@st.composite
def services(draw: st.DrawFn, template: TemplateSpec | None, digest: Digest) -> ServiceSpec:
    """With a template, or external without one."""
    ports = tuple(port.name for port in template.ports) if template else ("",)
    hosts = tuple(draw(st.lists(labels, min_size=1, max_size=3, unique=True)))
    route = st.builds(
        Route,
        st.just(hosts),
        paths.map(lambda path: path.rstrip("/") or "/"),
        st.sampled_from(ports),
        seconds,
        st.booleans(),
    )
    outside = External(
        tuple(
            ExternalEndpoint(name, draw(st.integers(1, 65535)))
            for name in draw(st.lists(labels, min_size=1, unique=True, max_size=3))
        ),
        draw(st.none() | st.just(Probe(tcp_socket=TcpSocket()))),
    )
    return ServiceSpec(
        owner=draw(texts),
        replicas=draw(st.integers(0, 10_000)) if template else 1,
        template_digest=digest,
        external=None if template else outside,
        route=draw(st.none() | route),
        update=RollingUpdate(
            draw(st.integers(1, 9)), draw(st.integers(0, 9)), draw(seconds.filter(lambda value: value >= 0.1))
        )
        if template
        else RollingUpdate(),
        depends_on=draw(dependencies()),
        ttl_seconds=draw(st.none() | st.floats(1, 1e6)),
        restarted_at=draw(st.just(0.0) | st.floats(1.7e9, 2.5e9)),
    )


@st.composite
def jobs(draw: st.DrawFn, digest: Digest) -> JobSpec:
    return JobSpec(
        owner=draw(texts),
        template_digest=digest,
        retries=draw(st.integers(0, 1000)),
        timeout_seconds=draw(seconds.filter(lambda value: value >= 0.1)),
        depends_on=draw(dependencies()),
        ttl_seconds=draw(st.none() | st.floats(1, 1e6)),
    )
