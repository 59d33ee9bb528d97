"""From a template and what was reserved to what a provider is asked for. `${NAME}` is expanded here, once."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec

from spinyard.core.ids import ResourceKey, Uid, resource_key
from spinyard.core.spec import DirectoryScope, EnvVar, Probe, TcpSocket
from spinyard.core.want import EndpointState, EndpointWant, FileWant, ProcessWant
from spinyard.spin.snapshot import LOOPBACK, Snapshot

ERRAND = "command"
"""the part of its key, and of its log's name"""
_REFERENCE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def expand(text: str, values: dict[str, str]) -> str:
    """`${NAME}` becomes its value where it is known and stays as written where it is not; `$$` is a dollar sign."""

    def one(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else values.get(name, match.group(0))

    return _REFERENCE.sub(one, text)


def port_variables(ports: tuple[tuple[str, int], ...]) -> dict[str, str]:
    """PORT_<NAME> for each, and PORT for the first."""
    out = {f"PORT_{re.sub('[^A-Z0-9]', '_', name.upper())}": str(number) for name, number in ports}
    if ports:
        out["PORT"] = str(ports[0][1])
    return out


def directory_keys(s: Snapshot) -> tuple[tuple[str, ResourceKey], ...]:
    """(variable, key) of every data directory: the spin's own, and those of its Service."""
    out = []
    for directory in s.template.data_directories:
        shared = directory.scope is DirectoryScope.SERVICE and s.spec.service_uid
        owner = Uid(s.spec.service_uid) if shared else s.row.uid
        out.append((directory.env, resource_key(owner, f"dir/{directory.name}")))
    if s.spec.pool_uid:
        out.append(("SPINYARD_CLAIM_DIR", claim_directory(s)))
    return tuple(out)


def claim_directory(s: Snapshot) -> ResourceKey:
    """Where a member finds what its claim brought; empty until then."""
    return resource_key(s.row.uid, "dir/claim")


def claim_files(s: Snapshot) -> tuple[FileWant, ...]:
    """`claim.json` last: who waits for it finds the others there."""
    claim = s.spec.claim
    if claim is None:
        return ()
    told = {"claim": claim.claim_name, "host": claim.host, "env": dict(claim.env)}
    files = (*claim.files, ("claim.json", msgspec.json.encode(told, order="sorted").decode()))
    return tuple(FileWant(directory=claim_directory(s), name=name, content=content) for name, content in files)


def process_want(s: Snapshot, command: tuple[str, ...], *, main: bool, timeout_seconds: float | None) -> ProcessWant:
    values = port_variables(s.ports)
    own = [EnvVar(name, value) for name, value in values.items()]
    own += [EnvVar("SPINYARD_SPIN", s.row.name), EnvVar("SPINYARD_SERVICE", s.spec.service_name)]
    own += tracing_variables(s)
    for variable in s.template.env:
        if not (variable.from_file or variable.from_variable or variable.secret_file):
            variable = replace(variable, value=expand(variable.value, values))
            values[variable.name] = variable.value
        own.append(variable)
    directories = directory_keys(s)
    return ProcessWant(
        argv=tuple(expand(word, values) for word in command),
        env=tuple(own),
        working_dir=expand(s.template.working_dir, values),
        ports=s.ports if main else (),
        directories=tuple(key for _, key in directories),
        directory_env=tuple((variable, key) for variable, key in directories if variable),
        limits=s.template.limits,
        isolation=s.template.isolation,
        grace_seconds=s.template.termination_grace_seconds if main else 1.0,
        timeout_seconds=timeout_seconds,
        log_name=s.row.uid,
    )


def tracing_variables(s: Snapshot) -> list[EnvVar]:
    """Where its flags are, and where its spans go: for our SDK, and for OpenTelemetry's where the template says nothing
    of that."""
    if not s.rules.otlp:
        return []
    named = {variable.name for variable in s.template.env}
    out = [EnvVar("SPINYARD_OTLP", s.rules.otlp), EnvVar("SPINYARD_FLAGS", s.rules.otlp)]
    if "OTEL_SERVICE_NAME" not in named and s.spec.service_name:
        out.append(EnvVar("OTEL_SERVICE_NAME", s.spec.service_name))
    if not any(name.startswith("OTEL_EXPORTER_OTLP_") for name in named):
        # Of traces only: metrics and logs are not taken there.
        out.append(EnvVar("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{s.rules.otlp}/v1/traces"))
        out.append(EnvVar("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"))
    return out


def errand_key(s: Snapshot) -> ResourceKey:
    return resource_key(s.row.uid, ERRAND)


def errand_want(s: Snapshot) -> ProcessWant:
    """In the surroundings of a bootstrap step, and what the claim brought as env is in its environment too."""
    claim = s.spec.claim
    assert claim is not None and claim.errand is not None
    want = process_want(s, claim.errand.command, main=False, timeout_seconds=claim.errand.timeout_seconds)
    brought = tuple(EnvVar(name, value) for name, value in claim.env)
    grace = s.template.termination_grace_seconds
    return msgspec.structs.replace(want, env=want.env + brought, grace_seconds=grace)


def main_want(s: Snapshot) -> ProcessWant:
    limit = s.spec.job_timeout_seconds if s.spec.run_to_exit else None
    return process_want(s, s.template.command + s.template.args, main=True, timeout_seconds=limit)


def step_want(s: Snapshot, index: int) -> ProcessWant:
    step = s.template.bootstrap[index]
    return process_want(s, step.command, main=False, timeout_seconds=step.timeout_seconds)


def route_port(s: Snapshot) -> int:
    numbers = dict(s.ports)
    if s.spec.route_port in numbers:
        return numbers[s.spec.route_port]
    return s.ports[0][1] if s.ports else 0


def endpoint_want(s: Snapshot, state: EndpointState) -> EndpointWant:
    return EndpointWant(
        cluster=s.spec.cluster,
        address=LOOPBACK,
        port=route_port(s),
        probe_port=probe_port(s),
        state=state,
        spin=s.row.name,
        host=s.spec.claim.host if s.spec.claim is not None else "",
    )


def probe_port(s: Snapshot) -> int:
    """Where the data plane checks its health, when that is not where its requests go; else 0."""
    probe = s.template.readiness_probe
    action = None if probe is None else probe.http_get or probe.tcp_socket or probe.grpc
    number = dict(s.ports).get(action.port, 0) if action is not None else 0
    return 0 if number == route_port(s) else number


def readiness(s: Snapshot) -> Probe | None:
    """The template's probe; without one, a routed instance must at least accept a connection. A job needs none."""
    if s.spec.run_to_exit:
        return None
    if s.template.readiness_probe is not None:
        return s.template.readiness_probe
    if s.spec.cluster and s.ports:
        return Probe(tcp_socket=TcpSocket(port=s.spec.route_port or s.ports[0][0]), period_seconds=1.0)
    return None
