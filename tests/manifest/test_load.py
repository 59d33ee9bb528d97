"""A right file becomes core specs with every default filled in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
    NamedTemplateSpec,
    Port,
    Probe,
    RollingUpdate,
    Route,
    ServiceSpec,
    SmokeTest,
    TcpSocket,
    TemplateSpec,
    digest_of,
)
from spinyard.manifest import Manifest, load

EXAMPLES = Path(__file__).parents[2] / "examples"


def one(text: str, base_dir: str = "") -> Manifest:
    manifests, problems = load(text, base_dir=base_dir)
    assert problems == []
    assert len(manifests) == 1
    return manifests[0]


def service(spec: str) -> ServiceSpec:
    found = one(f"apiVersion: spinyard.dev/v1\nkind: Service\nmetadata: {{name: s}}\nspec: {spec}\n").spec
    assert isinstance(found, ServiceSpec)
    return found


def template(spec: str, base_dir: str = "") -> TemplateSpec:
    found = one(f"apiVersion: spinyard.dev/v1\nkind: Template\nmetadata: {{name: t}}\nspec: {spec}\n", base_dir)
    return next(iter(found.templates.values()))


def test_the_ten_line_example_has_every_default() -> None:
    text = (EXAMPLES / "httpbin.yaml").read_text()
    expected = TemplateSpec(
        command=("gunicorn", "--bind", "127.0.0.1:${PORT}", "httpbin:app"),
        ports=(Port("http"),),
        readiness_probe=Probe(http_get=HttpGet(path="/get", port="http"), period_seconds=0.2),
    )
    digest = digest_of(expected)
    spec = ServiceSpec(
        owner="platform-team",
        replicas=3,
        template_digest=digest,
        route=Route(hosts=("httpbin.localhost",), path_prefix="/", port="http"),
    )
    assert one(text) == Manifest(
        Kind.SERVICE, "default", "httpbin", spec, templates={digest: expected}, source="file.yaml", line=1
    )
    assert len(text.splitlines()) == 11


def test_every_field_of_a_template_arrives() -> None:
    assert template(
        """
  owner: team
  command: [run]
  args: [a, "1"]
  workingDir: /srv
  env:
  - {name: A, value: b}
  - {name: EMPTY}
  - {name: F, valueFrom: {file: /f}}
  - {name: V, valueFrom: {variable: HOME}}
  - {name: S, valueFrom: {secretFile: /s}}
  ports: [{name: http}, {name: db, containerPort: 5432}]
  readinessProbe:
    httpGet: {path: /r, port: 5432, host: h, httpHeaders: [{name: X, value: y}]}
    initialDelaySeconds: 0.5
  livenessProbe: {tcpSocket: {port: db}, periodSeconds: 5s, timeoutSeconds: 250ms, failureThreshold: 7}
  startupProbe: {grpc: {service: s}, successThreshold: 1}
  resources: {limits: {memory: 256Mi, cpu: 500m, openFiles: 1024, processes: 50, log: 1Mi}}
  isolation: namespaces
  terminationGracePeriodSeconds: 5
  bootstrap: [{name: seed, command: [seed], timeoutSeconds: 1m30s}]
  smokeTest: {exec: {command: [smoke]}, timeoutSeconds: 3}
  dataDirectories: [{name: own}, {name: db, scope: service, env: DATA, retain: true}]
  drain: {timeoutSeconds: 7}
  startTimeoutSeconds: 8
  queueTimeoutSeconds: 1h
  failedTTLSeconds: 1d
  provider: fake
  annotations: {b: "2", a: "1"}
"""
    ) == TemplateSpec(
        command=("run",),
        args=("a", "1"),
        working_dir="/srv",
        env=(
            EnvVar("A", "b"),
            EnvVar("EMPTY"),
            EnvVar("F", from_file="/f"),
            EnvVar("V", from_variable="HOME"),
            EnvVar("S", secret_file="/s"),
        ),
        ports=(Port("http"), Port("db", 5432)),
        readiness_probe=Probe(http_get=HttpGet("/r", "db", "h", headers=(("X", "y"),)), initial_delay_seconds=0.5),
        liveness_probe=Probe(tcp_socket=TcpSocket("db"), period_seconds=5.0, timeout_seconds=0.25, failure_threshold=7),
        startup_probe=Probe(grpc=Grpc("http", "s")),
        limits=Limits(256 << 20, 0.5, 1024, 50, 1 << 20),
        isolation=Isolation.NAMESPACES,
        termination_grace_seconds=5.0,
        bootstrap=(BootstrapStep("seed", ("seed",), 90.0),),
        smoke_test=SmokeTest(exec=Exec(("smoke",)), timeout_seconds=3.0),
        data_directories=(DataDirectory("own"), DataDirectory("db", DirectoryScope.SERVICE, "DATA", True)),
        drain_timeout_seconds=7.0,
        start_timeout_seconds=8.0,
        queue_timeout_seconds=3600.0,
        failed_ttl_seconds=86400.0,
        provider="fake",
        annotations=(("a", "1"), ("b", "2")),
    )


def test_every_field_of_a_service_arrives() -> None:
    assert service(
        """
  owner: team
  replicas: 10
  route: {hosts: [A.example.com, "*.b", "*"], pathPrefix: /api, port: web, timeoutSeconds: 5, protocol: grpc}
  update: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%, progressDeadlineSeconds: 2m}}
  dependsOn: [db, {kind: Job, name: migrate}]
  ttl: 2h
  templateRef: {name: web}
  restartedAt: "2026-01-31T12:00:00.25Z"
"""
    ) == ServiceSpec(
        owner="team",
        replicas=10,
        template_ref="web",
        route=Route(("a.example.com", "*.b", "*"), "/api", "web", 5.0, http2=True),
        update=RollingUpdate(max_surge=3, max_unavailable=2, progress_deadline_seconds=120.0),
        depends_on=(Dependency(Kind.SERVICE, "db"), Dependency(Kind.JOB, "migrate")),
        ttl_seconds=7200.0,
        restarted_at=1769860800.25,
    )


def test_a_job_and_something_external_arrive() -> None:
    text = """
apiVersion: spinyard.dev/v1
kind: Job
metadata: {name: j, namespace: n, labels: {app: x}, annotations: {note: "a b"}}
spec: {owner: o, retries: 2, timeoutSeconds: 10m, templateRef: {name: t}}
"""
    assert one(text) == Manifest(
        Kind.JOB,
        "n",
        "j",
        JobSpec(owner="o", template_ref="t", retries=2, timeout_seconds=600.0),
        {"app": "x"},
        {"note": "a b"},
        template_ref="t",
        source="file.yaml",
        line=2,
    )
    spec = service("{external: {endpoints: [{address: 10.0.0.1, port: 80}], readinessProbe: {tcpSocket: {}}}}")
    assert spec.external == External((ExternalEndpoint("10.0.0.1", 80),), Probe(tcp_socket=TcpSocket()))


def test_an_inline_template_and_the_same_by_name_have_one_digest() -> None:
    named = one(
        "apiVersion: spinyard.dev/v1\nkind: Template\nmetadata: {name: t}\nspec: {owner: o, command: [run], args: [x]}"
    )
    assert isinstance(named.spec, NamedTemplateSpec)
    assert named.spec.template_digest == service("{template: {args: [x], command: [run]}}").template_digest
    assert set(named.templates) == {named.spec.template_digest}


def test_a_fixed_port_is_replaced_one_at_a_time() -> None:
    update = service("{template: {command: [a], ports: [{name: p, number: 8080}]}}").update
    assert (update.max_surge, update.max_unavailable) == (0, 1)


def test_text_that_yaml_versions_disagree_on_stays_text() -> None:
    found = template("{command: [yes, no, on, off, 010, 0x1F, '1', 12:30, 2026-01-31, 1_000, 1e3, \"~\", !!str 5]}")
    assert found.command == (
        "yes",
        "no",
        "on",
        "off",
        "010",
        "0x1F",
        "1",
        "12:30",
        "2026-01-31",
        "1_000",
        "1e3",
        "~",
        "5",
    )


def test_anchors_and_merges_work() -> None:
    found = template(
        "{command: &c [run], startupProbe: &p {exec: {command: *c}}, livenessProbe: {<<: *p, periodSeconds: 3}}"
    )
    assert found.liveness_probe == Probe(exec=Exec(("run",)), period_seconds=3.0)
    assert found.startup_probe == Probe(exec=Exec(("run",)))


def test_json_is_read_too_also_what_yaml_would_not() -> None:
    text = (
        '{"apiVersion": "spinyard.dev/v1", "kind": "Template", "metadata": {"name": "t", "labels": null},'
        '\n\t"spec": {"command": ["\\ud83d\\ude00", "a\\/b"]}}'
    )
    assert next(iter(one(text).templates.values())).command == ("\U0001f600", "a/b")


def test_a_list_and_what_the_server_filled_in_can_be_applied_again() -> None:
    text = """
apiVersion: spinyard.dev/v1
kind: List
items:
- apiVersion: spinyard.dev/v1
  kind: Template
  metadata: {name: t, uid: abc, generation: 3, resourceVersion: "7", creationTimestamp: "2026-01-01T00:00:00Z"}
  spec: {command: [a]}
  status: {state: ready}
"""
    assert one(text).line == 5


def test_relative_paths_mean_the_directory_of_the_file() -> None:
    spec = "{command: [a], workingDir: ../.., env: [{name: A, valueFrom: {secretFile: s/x}}, {name: B, value: c/d}]}"
    found = template(spec, base_dir="/srv/app/deploy")
    assert found.working_dir == "/srv"
    assert found.env == (EnvVar("A", secret_file="/srv/app/deploy/s/x"), EnvVar("B", "c/d"))


def test_the_body_is_what_may_be_sent_on() -> None:
    text = (
        "apiVersion: spinyard.dev/v1\nkind: Template\nmetadata: {name: t}\nspec: {command: [a], workingDir: x, args: }"
    )
    assert one(text, base_dir="/d").body == {
        "apiVersion": "spinyard.dev/v1",
        "kind": "Template",
        "metadata": {"name": "t"},
        "spec": {"command": ["a"], "workingDir": "/d/x"},
    }


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_every_example_is_right(path: Path) -> None:
    manifests, problems = load(path.read_text(), str(path), base_dir=str(path.parent))
    assert problems == []
    assert manifests


def test_importing_the_package_imports_neither_pydantic_nor_yaml() -> None:
    code = "import sys, spinyard.manifest; print({'pydantic', 'yaml'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
