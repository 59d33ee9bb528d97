"""What concerns several fields of a WarmPool or a Claim. Puts up with anything of a wrong type, as `checks` does."""

from __future__ import annotations

from spinyard.core.spec import WarmPoolSpec
from spinyard.manifest.checks import (
    Raw,
    actions_of,
    check_port,
    check_probe_port,
    check_program,
    check_template,
    exactly_one,
    is_mapping,
    mappings,
    number_of,
    ports_of,
    unique,
)
from spinyard.manifest.report import Path, Report

_POOL = WarmPoolSpec()


def check_pool(raw: Raw, report: Report) -> None:
    spec = raw.get("spec")
    if not is_mapping(spec):
        return
    exactly_one(spec, ("template", "templateRef"), ("spec",), report)
    _check_bounds(spec, ("spec",), _POOL.min, _POOL.max, report)
    for index, window in mappings(spec, "schedule"):
        _check_bounds(window, ("spec", "schedule", index), 0, 1, report)
    template = spec.get("template")
    if is_mapping(template):
        check_template(template, ("spec", "template"), report)
        _check_fixed_ports(template, spec, report)
    _check_ports(spec, report)
    hook = spec.get("onClaim")
    if is_mapping(hook):
        _check_hook(hook, spec, report)


def check_claim(raw: Raw, report: Report) -> None:
    spec = raw.get("spec")
    if not is_mapping(spec):
        return
    unique(spec, "env", "variable", ("spec",), report)
    unique(spec, "files", "file", ("spec",), report)


def _check_bounds(owner: Raw, at: Path, minimum: int, maximum: int, report: Report) -> None:
    low = number_of(owner, "min") if "min" in owner else minimum
    high = number_of(owner, "max") if "max" in owner else maximum
    if low is not None and high is not None and low > high >= 1:
        message = f"min {low} is more than max {high}: max counts claimed instances too"
        report.add((*at, "min" if "min" in owner else "max"), "out_of_range", message, "min of at most max")


def _check_fixed_ports(template: Raw, spec: Raw, report: Report) -> None:
    windows = [number_of(window, "max") or 0 for _, window in mappings(spec, "schedule")]
    most = max([number_of(spec, "max") or (_POOL.max if "max" not in spec else 0), *windows])
    for index, port in mappings(template, "ports"):
        number = number_of(port, "number") or number_of(port, "containerPort")
        if number and most > 1:
            message = f"{most} instances on one machine cannot all open port {number}"
            at: Path = ("spec", "template", "ports", index)
            report.add(at, "fixed_port", message, "no number", "leave the number out and use ${PORT} in command or env")


def _check_ports(spec: Raw, report: Report) -> None:
    template = spec.get("template")
    if is_mapping(spec.get("templateRef")) and str(spec.get("port", "")).isdigit():
        message = "with templateRef a port has to be named"
        report.add(("spec", "port"), "unknown_port", message, "the name of a port of the Template")
    if not is_mapping(template):
        return
    ports = ports_of(template)
    if ports == [] and ("hostSuffix" in spec or "port" in spec):
        message = "hostSuffix needs a port, and the template has none"
        at: Path = ("spec", "hostSuffix" if "hostSuffix" in spec else "port")
        report.add(at, "missing_port", message, "spec.template.ports", "write ports: [{name: http}]")
    else:
        check_port(spec, ports, ("spec", "port"), report)


def _check_hook(hook: Raw, spec: Raw, report: Report) -> None:
    at: Path = ("spec", "onClaim")
    exactly_one(hook, ("httpGet", "exec"), at, report)
    template = spec.get("template")
    for action, body in actions_of(hook):
        check_program(body, "command", (*at, action), report)
        if is_mapping(template):
            check_probe_port(action, body, ports_of(template), (*at, action), report)
        elif str(body.get("port", "")).isdigit():
            message = "with templateRef a port has to be named"
            report.add((*at, action, "port"), "unknown_port", message, "the name of a port of the Template")
