"""From `core.spec` back to the published form. `load` of what is written here gives the same specs again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import yaml

from spinyard.core.spec import (
    ClaimSpec,
    EnvVar,
    External,
    HoldSpec,
    HttpGet,
    JobSpec,
    Kind,
    NamedTemplateSpec,
    ObjectSpec,
    OnClaim,
    Port,
    Probe,
    RollingUpdate,
    RolloutSpec,
    Route,
    ServiceSpec,
    SmokeTest,
    SpinSpec,
    TemplateSpec,
    WarmPoolSpec,
)
from spinyard.core.spinout import SpinoutSpec
from spinyard.manifest.objects import API_VERSION
from spinyard.manifest.rollout_render import rollout_fields, strategy_fields
from spinyard.manifest.scalars import bytes_text, cores_text, plain_number, timestamp_text
from spinyard.manifest.spinout_render import spinout_fields

Fields = dict[str, object]


def to_json(kind: Kind, meta: Mapping[str, object], spec: ObjectSpec, template: TemplateSpec | None) -> Fields:
    return {
        "apiVersion": API_VERSION,
        "kind": str(kind),
        "metadata": _given(dict(meta)),
        "spec": _spec(spec, template),
    }


def _given(fields: Fields) -> Fields:
    """Without what is None or empty. Numbers and booleans stay, whatever they are."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", [], {}, ())}


def _spec(spec: ObjectSpec, template: TemplateSpec | None) -> Fields:
    match spec:
        case ServiceSpec():
            return _service(spec, template)
        case JobSpec():
            return _job(spec, template)
        case NamedTemplateSpec():
            return _given({"owner": spec.owner}) | (_template(template) if template else {})
        case SpinSpec():
            return _spin(spec, template)
        case WarmPoolSpec():
            return _pool(spec, template)
        case ClaimSpec():
            return _claim(spec)
        case RolloutSpec():
            return rollout_fields(spec)
        case SpinoutSpec():
            return spinout_fields(spec)
        case HoldSpec():
            until = None if spec.until is None else timestamp_text(spec.until)
            return _given({"scope": spec.scope, "why": spec.why, "by": spec.by, "until": until})
        case _:
            assert_never(spec)


def _pool(spec: WarmPoolSpec, template: TemplateSpec | None) -> Fields:
    return _given(
        {
            "owner": spec.owner,
            "min": spec.min,
            "max": spec.max,
            "schedule": [
                {"cron": w.cron, "duration": plain_number(w.duration_seconds), "min": w.min, "max": w.max}
                for w in spec.windows
            ],
            "maxIdle": _seconds(spec.max_idle_seconds),
            "freshness": _seconds(spec.freshness_seconds),
            "updateStrategy": "Recreate" if spec.replace_stale else "OnDelete",
            "hostSuffix": spec.host_suffix,
            "port": spec.route_port,
            "onClaim": _on_claim(spec.on_claim),
            **_source(spec, template),
        }
    )


def _on_claim(hook: OnClaim | None) -> Fields | None:
    if hook is None:
        return None
    return _given(
        {
            "httpGet": _http_get(hook.http_get),
            "exec": {"command": list(hook.exec.command)} if hook.exec else None,
            "timeoutSeconds": plain_number(hook.timeout_seconds),
        }
    )


def _claim(spec: ClaimSpec) -> Fields:
    """What the server fills in (the host, when it ends) is in the status: this can be applied again."""
    return _given(
        {
            "owner": spec.owner,
            "pool": spec.pool,
            "env": dict(spec.env),
            "files": _files(spec.files),
            "ttl": _seconds(spec.ttl_seconds),
            "wait": plain_number(spec.wait_seconds),
        }
    )


def _files(files: tuple[tuple[str, str], ...]) -> list[Fields]:
    return [{"name": name, "content": content} for name, content in files]


def _seconds(value: float | None) -> int | float | None:
    return None if value is None else plain_number(value)


def _source(spec: ServiceSpec | JobSpec | WarmPoolSpec, template: TemplateSpec | None) -> Fields:
    if spec.template_ref:
        return {"templateRef": {"name": spec.template_ref}}
    return {"template": _template(template)} if template else {}


def _work(spec: ServiceSpec | JobSpec) -> Fields:
    return {
        "dependsOn": [{"kind": str(item.kind), "name": item.name} for item in spec.depends_on],
        "ttl": None if spec.ttl_seconds is None else plain_number(spec.ttl_seconds),
    }


def _service(spec: ServiceSpec, template: TemplateSpec | None) -> Fields:
    """What means nothing for something external is left out: it would be refused on the way back."""
    external = spec.external
    return _given(
        {
            "owner": spec.owner,
            "replicas": None if external else spec.replicas,
            "route": _route(spec.route) if spec.route else None,
            "update": None if external else {"rollingUpdate": _rolling(spec.update)},
            "rollout": strategy_fields(spec.strategy) if spec.strategy else None,
            **_work(spec),
            "restartedAt": timestamp_text(spec.restarted_at) if spec.restarted_at else None,
            "external": _external(external) if external else None,
            **_source(spec, template),
        }
    )


def _job(spec: JobSpec, template: TemplateSpec | None) -> Fields:
    return _given(
        {
            "owner": spec.owner,
            "retries": spec.retries,
            "timeoutSeconds": plain_number(spec.timeout_seconds),
            **_work(spec),
            **_source(spec, template),
            "pool": spec.pool,
            "command": list(spec.command),
            "args": list(spec.args),
            "env": dict(spec.env),
            "files": _files(spec.files),
        }
    )


def _spin(spec: SpinSpec, template: TemplateSpec | None) -> Fields:
    return _given(
        {
            "service": spec.service_name,
            "templateDigest": spec.template_digest,
            "routePort": spec.route_port,
            "runToExit": True if spec.run_to_exit else None,
            "timeoutSeconds": None if spec.job_timeout_seconds is None else plain_number(spec.job_timeout_seconds),
            "ttl": None if spec.ttl_seconds is None else plain_number(spec.ttl_seconds),
            "template": _template(template) if template else None,
        }
    )


def _route(route: Route) -> Fields:
    return _given(
        {
            "hosts": list(route.hosts),
            "pathPrefix": route.path_prefix,
            "port": route.port,
            "timeoutSeconds": plain_number(route.timeout_seconds),
            "protocol": "http2" if route.http2 else "http1",
        }
    )


def _rolling(update: RollingUpdate) -> Fields:
    return {
        "maxSurge": update.max_surge,
        "maxUnavailable": update.max_unavailable,
        "progressDeadlineSeconds": plain_number(update.progress_deadline_seconds),
    }


def _external(external: External) -> Fields:
    return _given(
        {
            "endpoints": [{"address": item.address, "port": item.port} for item in external.endpoints],
            "readinessProbe": _probe(external.readiness_probe),
        }
    )


# -- template --------------------------------------------------------------------------------------------------------


def _template(template: TemplateSpec) -> Fields:
    limits = template.limits
    return _given(
        {
            "command": list(template.command),
            "args": list(template.args),
            "workingDir": template.working_dir,
            "env": [_env(item) for item in template.env],
            "ports": [_port(item) for item in template.ports],
            "readinessProbe": _probe(template.readiness_probe),
            "livenessProbe": _probe(template.liveness_probe),
            "startupProbe": _probe(template.startup_probe),
            "resources": {
                "limits": _given(
                    {
                        "memory": None if limits.memory_bytes is None else bytes_text(limits.memory_bytes),
                        "cpu": None if limits.cpu is None else cores_text(limits.cpu),
                        "openFiles": limits.open_files,
                        "processes": limits.processes,
                        "log": bytes_text(limits.log_bytes),
                    }
                )
            },
            "isolation": str(template.isolation),
            "terminationGracePeriodSeconds": plain_number(template.termination_grace_seconds),
            "bootstrap": [
                {
                    "name": step.name,
                    "command": list(step.command),
                    "timeoutSeconds": plain_number(step.timeout_seconds),
                }
                for step in template.bootstrap
            ],
            "smokeTest": _smoke_test(template.smoke_test),
            "dataDirectories": [
                _given({"name": item.name, "scope": str(item.scope), "env": item.env, "retain": item.retain or None})
                for item in template.data_directories
            ],
            "drain": {"timeoutSeconds": plain_number(template.drain_timeout_seconds)},
            "startTimeoutSeconds": plain_number(template.start_timeout_seconds),
            "queueTimeoutSeconds": plain_number(template.queue_timeout_seconds),
            "failedTTLSeconds": plain_number(template.failed_ttl_seconds),
            "provider": template.provider,
            "annotations": dict(template.annotations),
        }
    )


def _env(variable: EnvVar) -> Fields:
    source = _given(
        {"file": variable.from_file, "variable": variable.from_variable, "secretFile": variable.secret_file}
    )
    if source:
        return {"name": variable.name, "valueFrom": source}
    return {"name": variable.name, "value": variable.value}


def _port(port: Port) -> Fields:
    return {"name": port.name, "number": port.number} if port.number else {"name": port.name}


def _http_get(action: HttpGet | None) -> Fields | None:
    if action is None:
        return None
    return _given(
        {
            "path": action.path,
            "port": action.port,
            "host": action.host,
            "scheme": action.scheme.upper(),
            "httpHeaders": [{"name": name, "value": value} for name, value in action.headers],
        }
    )


def _probe(probe: Probe | None) -> Fields | None:
    if probe is None:
        return None
    fields: Fields = {
        "httpGet": _http_get(probe.http_get),
        "tcpSocket": _given({"port": probe.tcp_socket.port}) if probe.tcp_socket else None,
        "grpc": _given({"port": probe.grpc.port, "service": probe.grpc.service}) if probe.grpc else None,
        "exec": {"command": list(probe.exec.command)} if probe.exec else None,
        "initialDelaySeconds": plain_number(probe.initial_delay_seconds),
        "periodSeconds": plain_number(probe.period_seconds),
        "timeoutSeconds": plain_number(probe.timeout_seconds),
        "successThreshold": probe.success_threshold,
        "failureThreshold": probe.failure_threshold,
    }
    # An action without fields, as of a probe of something external, is given nevertheless.
    return {name: value for name, value in fields.items() if value is not None}


def _smoke_test(test: SmokeTest | None) -> Fields | None:
    if test is None:
        return None
    return _given(
        {
            "httpGet": _http_get(test.http_get),
            "exec": {"command": list(test.exec.command)} if test.exec else None,
            "timeoutSeconds": plain_number(test.timeout_seconds),
        }
    )


# -- YAML ------------------------------------------------------------------------------------------------------------


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes no anchors: what is shown is read by people."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def to_yaml(objects: object) -> str:
    documents: Sequence[object] = objects if isinstance(objects, list) else [objects]
    return yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120
    )
