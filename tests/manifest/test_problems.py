"""A wrong file gets all its errors at once, each at its line, with what was expected and what may have been meant."""

# The rows of the tables are longer than a line, and are read better so.
# ruff: noqa: E501

from __future__ import annotations

import pytest

from spinyard.manifest import Problem, from_json, load

GOOD = """\
apiVersion: spinyard.dev/v1
kind: Service
metadata: {name: web}
spec:
  replicas: 2
  route: {hosts: [web.localhost]}
  template:
    command: [serve, "--port=${PORT}"]
    ports: [{name: http}, {name: admin}]
    readinessProbe: {httpGet: {path: /ready, port: http}}
"""


def problems_of(text: str) -> list[Problem]:
    return load(text, "web.yaml")[1]


def only(text: str) -> Problem:
    found = problems_of(text)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


def test_a_good_file_has_no_problems() -> None:
    manifests, problems = load(GOOD)
    assert problems == []
    assert [manifest.name for manifest in manifests] == ["web"]


# What is replaced in GOOD, by what; then code, line, path and a part of the suggestion.
ONE_MISTAKE = [
    pytest.param("replicas: 2", "replica: 2", "unknown_field", 5, "spec.replica", "replicas", id="misspelt field"),
    pytest.param("ports:", "prots:", "unknown_field", 9, "spec.template.prots", "ports", id="misspelt deep field"),
    pytest.param("kind: Service", "kind: Servise", "unknown_kind", 2, "kind", "Service", id="misspelt kind"),
    pytest.param("kind: Service", "kind: Spin", "read_only_kind", 2, "kind", "Service or Job", id="spin is read only"),
    pytest.param("kind: Service", "kind: Resource", "read_only_kind", 2, "kind", "ledger", id="resource is read only"),
    pytest.param("kind: Service", "kind: Deployment", "kubernetes_object", 2, "kind", "Service", id="deployment"),
    pytest.param("spinyard.dev/v1", "v1", "kubernetes_object", 1, "apiVersion", "spinyard.dev/v1", id="api v1"),
    pytest.param("spinyard.dev/v1", "spinyard.dev/v2", "unknown_version", 1, "apiVersion", "v1", id="newer version"),
    pytest.param("replicas: 2", 'replicas: "2"', "wrong_type", 5, "spec.replicas", "write 2", id="text for a number"),
    pytest.param("replicas: 2", "replicas: 02", "wrong_type", 5, "spec.replicas", "write 2", id="octal or not"),
    pytest.param("replicas: 2", "replicas: 10001", "out_of_range", 5, "spec.replicas", "", id="too many replicas"),
    pytest.param("replicas: 2", "replicas: -1", "out_of_range", 5, "spec.replicas", "", id="negative replicas"),
    pytest.param('"--port=${PORT}"', "8080", "wrong_type", 8, "spec.template.command[1]", '"8080"', id="number in command"),
    pytest.param("[serve", "[true", "wrong_type", 8, "spec.template.command[0]", '"true"', id="boolean in command"),
    pytest.param("[serve", "[1.50", "wrong_type", 8, "spec.template.command[0]", '"1.50"', id="keeps the digits"),
    pytest.param("web.localhost", "http://web", "invalid_host", 6, "spec.route.hosts[0]", "scheme", id="url as host"),
    pytest.param("web.localhost", '"web:80"', "invalid_host", 6, "spec.route.hosts[0]", "port", id="port in host"),
    pytest.param("[web.localhost]", "[a.b, A.b]", "duplicate_name", 6, "spec.route.hosts[1]", "", id="host twice"),
    pytest.param(
        "hosts: [web.localhost]", "hosts: [a], pathPrefix: api", "invalid_path", 6, "spec.route.pathPrefix", '"/api"', id="prefix"
    ),
    pytest.param("port: http}}", "port: htp}}", "unknown_port", 10, "spec.template.readinessProbe.httpGet.port", "http", id="port"),
    pytest.param("port: http}}", "port: 80}}", "unknown_port", 10, "spec.template.readinessProbe.httpGet.port", "", id="port number"),
    pytest.param("{name: admin}", "{name: http}", "duplicate_name", 9, "spec.template.ports[1].name", "", id="port twice"),
    pytest.param("{name: admin}", "{name: Admin}", "invalid_name", 9, "spec.template.ports[1].name", "admin", id="port name"),
    pytest.param("name: web}", "name: My_Web}", "invalid_name", 3, "metadata.name", "my-web", id="name"),
    pytest.param("name: web}", f"name: {'a' * 64}}}", "invalid_name", 3, "metadata.name", "", id="long name"),
    pytest.param("{name: web}", "{nme: web, name: web}", "unknown_field", 3, "metadata.nme", "name", id="metadata field"),
    pytest.param("{name: web}", "{name: web, labels: {a: b c}}", "invalid_label", 3, "metadata.labels.a", "", id="label"),
    pytest.param('command: [serve, "--port=${PORT}"]', "args: [a]", "missing_field", 8, "spec.template", "args alone", id="no command"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "code", "line", "path", "suggestion"), ONE_MISTAKE)
def test_one_mistake_gives_one_problem_at_its_line(
    old: str, new: str, code: str, line: int, path: str, suggestion: str
) -> None:
    assert GOOD.count(old) >= 1
    problem = only(GOOD.replace(old, new, 1))
    assert (problem.code, problem.line, problem.path) == (code, line, path)
    assert suggestion in problem.suggestion
    assert problem.expected or problem.suggestion or problem.code == "out_of_range"
    assert problem.source == "web.yaml"


TEMPLATE = """\
apiVersion: spinyard.dev/v1
kind: Template
metadata: {name: t}
spec:
  command: [run]
  ports: [{name: http}, {name: db-a, number: 5000}]
"""

ONE_LINE = [
    pytest.param("env: [{name: A-B, value: x}]", "invalid_variable", "spec.env[0].name", id="variable name"),
    pytest.param("env: [{name: A, value: x}, {name: A, value: y}]", "duplicate_name", "spec.env[1].name", id="variable twice"),
    pytest.param("env: [{name: PORT, value: x}]", "duplicate_name", "spec.env[0].name", id="PORT is ours"),
    pytest.param("env: [{name: PORT_DB_A, value: x}]", "duplicate_name", "spec.env[0].name", id="PORT_<NAME> is ours"),
    pytest.param("env: [{name: SPINYARD_SPIN, value: x}]", "duplicate_name", "spec.env[0].name", id="SPINYARD_SPIN is ours"),
    pytest.param("env: [{name: A, value: 1}]", "wrong_type", "spec.env[0].value", id="number as value"),
    pytest.param("env: [{name: A, value: true}]", "wrong_type", "spec.env[0].value", id="boolean as value"),
    pytest.param("env: [{name: A, value: x, valueFrom: {file: /a}}]", "one_of", "spec.env[0].valueFrom", id="value and source"),
    pytest.param("env: [{name: A, valueFrom: {}}]", "missing_field", "spec.env[0].valueFrom", id="no source"),
    pytest.param("env: [{name: A, valueFrom: {file: /a, variable: B}}]", "one_of", "spec.env[0].valueFrom.variable", id="two sources"),
    pytest.param("env: [{name: A, valueFrom: {file: a}}]", "invalid_path", "spec.env[0].valueFrom.file", id="relative file"),
    pytest.param("env: [{name: A, valueFrom: {secretKeyRef: {}, file: /a}}]", "unknown_field", "spec.env[0].valueFrom.secretKeyRef", id="secretKeyRef"),
    pytest.param('env: [{name: A, value: "a\\0b"}]', "invalid_text", "spec.env[0].value", id="NUL"),
    pytest.param("workingDir: sub", "invalid_path", "spec.workingDir", id="relative directory"),
    pytest.param("readinessProbe: {periodSeconds: 1}", "missing_field", "spec.readinessProbe", id="probe without action"),
    pytest.param("readinessProbe: {httpGet: {}, tcpSocket: {}}", "one_of", "spec.readinessProbe.tcpSocket", id="two actions"),
    pytest.param("readinessProbe: {httpGet: {scheme: HTTPS}}", "invalid_value", "spec.readinessProbe.httpGet.scheme", id="https readiness"),
    pytest.param("readinessProbe: {httpGet: {path: a}}", "invalid_path", "spec.readinessProbe.httpGet.path", id="probe path"),
    pytest.param("readinessProbe: {tcpSocket: {}, periodSeconds: 0}", "out_of_range", "spec.readinessProbe.periodSeconds", id="period 0"),
    pytest.param("readinessProbe: {tcpSocket: {}, timeoutSeconds: soon}", "invalid_duration", "spec.readinessProbe.timeoutSeconds", id="duration"),
    pytest.param("livenessProbe: {tcpSocket: {}, successThreshold: 2}", "out_of_range", "spec.livenessProbe.successThreshold", id="liveness successes"),
    pytest.param("livenessProbe: {exec: {command: []}}", "out_of_range", "spec.livenessProbe.exec.command", id="empty exec"),
    pytest.param("livenessProbe: {exec: {command: [curl localhost]}}", "invalid_value", "spec.livenessProbe.exec.command[0]", id="no shell"),
    pytest.param("resources: {limits: {memory: 256m}}", "invalid_quantity", "spec.resources.limits.memory", id="millibytes"),
    pytest.param("resources: {limits: {memory: 0}}", "out_of_range", "spec.resources.limits.memory", id="no memory"),
    pytest.param("resources: {limits: {cpu: 2 cores}}", "invalid_quantity", "spec.resources.limits.cpu", id="cpu"),
    pytest.param("resources: {requests: {cpu: 1}}", "unknown_field", "spec.resources.requests", id="requests"),
    pytest.param("image: nginx", "unknown_field", "spec.image", id="image"),
    pytest.param("isolation: container", "invalid_value", "spec.isolation", id="isolation"),
    pytest.param("provider: docker", "invalid_value", "spec.provider", id="provider"),
    pytest.param("bootstrap: [{name: a, command: [x]}, {name: a, command: [y]}]", "duplicate_name", "spec.bootstrap[1].name", id="step twice"),
    pytest.param("bootstrap: [{name: a}]", "missing_field", "spec.bootstrap[0].command", id="step without command"),
    pytest.param("smokeTest: {}", "missing_field", "spec.smokeTest", id="empty smoke test"),
    pytest.param("dataDirectories: [{name: d, retain: true}]", "one_of", "spec.dataDirectories[0].retain", id="retained spin directory"),
    pytest.param("dataDirectories: [{name: d, scope: service, retain: yes}]", "wrong_type", "spec.dataDirectories[0].retain", id="yes is not true"),
    pytest.param("dataDirectories: [{name: d, env: PORT}]", "duplicate_name", "spec.dataDirectories[0].env", id="directory env taken"),
    pytest.param("terminationGracePeriodSeconds: -1", "out_of_range", "spec.terminationGracePeriodSeconds", id="negative grace"),
    pytest.param("failedTtlSeconds: 1", "unknown_field", "spec.failedTtlSeconds", id="case of a field"),
    pytest.param("args: run", "wrong_type", "spec.args", id="text for a list"),
    pytest.param("env: {A: b}", "wrong_type", "spec.env", id="mapping for a list"),
    pytest.param("drain: 5", "wrong_type", "spec.drain", id="number for a mapping"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code", "path"), ONE_LINE)
def test_a_wrong_line_in_a_template_is_named(line: str, code: str, path: str) -> None:
    problem = only(TEMPLATE + f"  {line}\n")
    assert (problem.code, problem.path, problem.line) == (code, path, 7)


SERVICE = """\
apiVersion: spinyard.dev/v1
kind: Service
metadata: {name: web}
spec:
"""

SPECS = [
    pytest.param("replicas: 1", "missing_field", "spec", id="no source of instances"),
    pytest.param("{templateRef: {name: t}, template: {command: [a]}}", "one_of", "spec.templateRef", id="both"),
    pytest.param("{templateRef: {name: t}, template: null}", None, "", id="null is not given"),
    pytest.param("{template: {command: [a]}, route: {hosts: [a]}}", "missing_port", "spec.route", id="route without port"),
    pytest.param("{templateRef: {name: t}, route: {hosts: []}}", "out_of_range", "spec.route.hosts", id="no hosts"),
    pytest.param("{templateRef: {name: t}, dependsOn: [a, a]}", "duplicate_name", "spec.dependsOn[1]", id="dependency twice"),
    pytest.param("{templateRef: {name: t}, dependsOn: [web]}", "dependency_cycle", "spec.dependsOn", id="waits for itself"),
    pytest.param("{templateRef: {name: t}, ttl: 0}", "out_of_range", "spec.ttl", id="ttl 0"),
    pytest.param("{external: {endpoints: []}}", "out_of_range", "spec.external.endpoints", id="no endpoints"),
    pytest.param("{external: {endpoints: [{address: a/b, port: 1}]}}", "invalid_address", "spec.external.endpoints[0].address", id="address"),
    pytest.param("{external: {endpoints: [{address: a, port: 1}, {address: a, port: 1}]}}", "duplicate_name", "spec.external.endpoints[1]", id="endpoint twice"),
    pytest.param("{external: {endpoints: [{address: a, port: 1}]}, replicas: 2}", "one_of", "spec.replicas", id="replicas of something external"),
    pytest.param("{external: {endpoints: [{address: a, port: 1}], readinessProbe: {exec: {command: [a]}}}}", "one_of", "spec.external.readinessProbe.exec", id="exec outside"),
    pytest.param("{templateRef: {name: t}, update: {rollingUpdate: {maxSurge: 0}}}", "out_of_range", "spec.update.rollingUpdate", id="nothing may move"),
    pytest.param("{templateRef: {name: t}, update: {rollingUpdate: {maxSurge: 120%}}}", "invalid_share", "spec.update.rollingUpdate.maxSurge", id="percentage"),
    pytest.param("{replicas: 2, template: {command: [a], ports: [{name: p, number: 80}]}}", "fixed_port", "spec.template.ports[0]", id="fixed port of two"),
    pytest.param("{template: {command: [a], ports: [{name: p, containerPort: 80}]}, update: {rollingUpdate: {maxSurge: 1}}}", "fixed_port", "spec.update.rollingUpdate.maxSurge", id="fixed port with surge"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "code", "path"), SPECS)
def test_a_wrong_service_is_told_why(spec: str, code: str | None, path: str) -> None:
    found = problems_of(f"{SERVICE}  {spec}\n")
    assert [(problem.code, problem.path) for problem in found] == ([(code, path)] if code else [])


def test_every_mistake_of_every_document_is_told_at_once() -> None:
    text = (
        SERVICE.replace("name: web", "name: WEB")
        + "  ownr: x\n  replicas: many\n  template:\n    image: nginx\n    ports: [{name: http}]\n"
        + "    env: [{name: 1A, value: 2}]\n    readinessProbe: {httpGet: {port: htp}, grpc: {}}\n"
        + "---\nkind: Service\n---\napiVersion: batch/v1\nkind: CronJob\n---\n[]\n"
    )
    found = {(problem.code, problem.line) for problem in problems_of(text)}
    assert found == {
        ("invalid_name", 3),
        ("unknown_field", 5),
        ("wrong_type", 6),
        ("missing_field", 8),
        ("unknown_field", 8),
        ("invalid_variable", 10),
        ("wrong_type", 10),
        ("unknown_port", 11),
        ("one_of", 11),
        ("missing_field", 13),
        ("kubernetes_object", 16),
        ("wrong_type", 18),
    }


def test_a_field_given_twice_is_an_error_and_the_object_is_not_used() -> None:
    manifests, problems = load(GOOD.replace("  replicas: 2\n", "  replicas: 2\n  replicas: 3\n"))
    assert [(problem.code, problem.line, problem.path) for problem in problems] == [
        ("duplicate_field", 6, "spec.replicas")
    ]
    assert "line 5" in problems[0].message
    assert manifests == []


def test_the_same_object_twice_is_an_error_but_not_in_another_namespace() -> None:
    problem = only(f"{GOOD}---\n{GOOD}")
    assert (problem.code, problem.line) == ("duplicate_object", 14)
    assert problems_of(f"{GOOD}---\n{GOOD.replace('{name: web}', '{name: web, namespace: other}')}") == []


def test_a_circle_of_dependencies_is_named() -> None:
    def job(name: str, *needs: str) -> str:
        listed = ", ".join(f"{{kind: Job, name: {need}}}" for need in needs)
        return (
            f"apiVersion: spinyard.dev/v1\nkind: Job\nmetadata: {{name: {name}}}\n"
            f"spec: {{template: {{command: [x]}}, dependsOn: [{listed}]}}\n---\n"
        )

    problem = only(job("a", "b") + job("b", "c") + job("c", "a", "elsewhere") + job("d", "a"))
    assert problem.code == "dependency_cycle"
    assert "Job a -> Job b -> Job c -> Job a" in problem.message
    assert problems_of(job("a", "b", "c") + job("b", "c") + job("c")) == []


def test_api_bodies_get_paths_and_no_lines() -> None:
    body = {"apiVersion": "spinyard.dev/v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"templat": {}}}
    manifests, problems = from_json({"kind": "List", "items": [body]})
    assert manifests == []
    assert [(problem.path, problem.code, problem.line) for problem in problems] == [
        ("items[0].spec.templat", "unknown_field", 0)
    ]
    assert str(problems[0]).startswith('request: items[0].spec.templat: there is no field "templat"')


@pytest.mark.parametrize(
    "body", [None, 1, "x", [], {}, {"kind": []}, {"kind": "List", "items": 3}, {"kind": "Service", "spec": 1}]
)
def test_any_json_is_answered_with_problems(body: object) -> None:
    manifests, problems = from_json(body)
    assert manifests == []
    assert problems


def test_a_problem_reads_as_one_line() -> None:
    text = str(only(GOOD.replace("replicas: 2", "replica: 2")))
    assert text.startswith('web.yaml:5:3: spec.replica: there is no field "replica"; expected one of dependsOn')
    assert text.endswith("-> did you mean replicas?")


@pytest.mark.parametrize("host", ["x\\r\\nEvil: 1", "with blank", "bücher.example"])
def test_the_host_of_a_probe_is_what_a_header_may_say(host: str) -> None:
    """Envoy refuses the cluster otherwise, and says so in words that nobody understands."""
    text = GOOD.replace("path: /ready,", f'path: /ready, host: "{host}",')
    problem = only(text)
    assert (problem.code, problem.path) == ("invalid_host", "spec.template.readinessProbe.httpGet.host")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("startTimeoutSeconds", "٣s"),
        ("resources", {"limits": {"memory": "٣Gi"}}),
        ("resources", {"limits": {"memory": "9" * 5000 + "Gi"}}),
        ("resources", {"limits": {"cpu": "٣m"}}),
    ],
    ids=["duration", "bytes", "bytes without end", "cores"],
)
def test_numbers_have_digits_of_ascii_and_few_of_them(field: str, value: object) -> None:
    template = {"command": ["true"], field: value}
    spec = {"template": template}
    _, problems = from_json({"apiVersion": "spinyard.dev/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": spec})
    assert [problem.code for problem in problems] in (["invalid_duration"], ["invalid_quantity"])
