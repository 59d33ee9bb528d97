"""What concerns several fields of one object. Reads the raw data, not the shapes: a mistake in one field must not hide
one in another, so everything here puts up with anything of a wrong type and leaves it to the shapes to say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeGuard

from spinyard.manifest.nearest import did_you_mean, nearest
from spinyard.manifest.places import is_placed
from spinyard.manifest.report import Path, Report

Raw = Mapping[str, object]

_ACTIONS = ("httpGet", "tcpSocket", "grpc", "exec")
_OURS = (
    *("SPINYARD_SPIN", "SPINYARD_SERVICE", "SPINYARD_KEY", "SPINYARD_INSTALLATION"),
    *("SPINYARD_OTLP", "SPINYARD_FLAGS"),
)
_PROBES = ("readinessProbe", "livenessProbe", "startupProbe")


def check_object(kind: str, raw: Raw, report: Report) -> None:
    spec = raw.get("spec")
    if not is_mapping(spec):
        return
    if kind == "Template":
        check_template(spec, ("spec",), report)
        return
    template = spec.get("template")
    if is_mapping(template):
        check_template(template, ("spec", "template"), report)
    sources = ("template", "templateRef", "external" if kind == "Service" else "pool")
    exactly_one(spec, sources, ("spec",), report)
    if kind == "Service":
        _check_service(spec, report)
    else:
        _check_job(spec, report)
    _check_dependencies(kind, raw, spec, report)


def is_mapping(value: object) -> TypeGuard[Raw]:
    return isinstance(value, dict)


def mappings(owner: Raw, name: str) -> Iterator[tuple[int, Raw]]:
    items = owner.get(name)
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if is_mapping(item):
            yield index, item


def text_of(owner: Raw, name: str) -> str | None:
    value = owner.get(name)
    return value if isinstance(value, str) else None


def number_of(owner: Raw, name: str) -> int | None:
    value = owner.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def exactly_one(owner: Raw, names: tuple[str, ...], at: Path, report: Report) -> None:
    given = [name for name in names if name in owner]
    listed = " or ".join((", ".join(names[:-1]), names[-1]))
    if not given and not is_misspelt(owner, names):
        report.add(at, "missing_field", f"one of {listed} is missing", f"exactly one of {listed}")
    for name in given[1:]:
        message = f"{name} cannot stand beside {given[0]}"
        report.add((*at, name), "one_of", message, f"exactly one of {listed}", at_key=True)


def is_misspelt(owner: Raw, names: tuple[str, ...]) -> bool:
    """A field that is there under a wrong name is told once, as unknown, and not as missing as well."""
    return any(nearest(key, names) for key in owner)


def unique(owner: Raw, list_name: str, what: str, at: Path, report: Report) -> None:
    seen: set[str] = set()
    for index, item in mappings(owner, list_name):
        name = text_of(item, "name")
        if name in seen:
            report.add(
                (*at, list_name, index, "name"), "duplicate_name", f'{what} "{name}" is given twice', "each name once"
            )
        elif name is not None:
            seen.add(name)


# -- service and job -------------------------------------------------------------------------------------------------


def _check_service(spec: Raw, report: Report) -> None:
    route = spec.get("route")
    template = spec.get("template")
    if is_mapping(route):
        _check_route(route, spec, report)
        if is_mapping(spec.get("templateRef")) and str(route.get("port", "")).isdigit():
            message = "with templateRef a port has to be named"
            report.add(("spec", "route", "port"), "unknown_port", message, "the name of a port of the Template")
        if is_mapping(template):
            if ports_of(template) == []:
                message = "a route needs a port, and the template has none"
                report.add(
                    ("spec", "route"), "missing_port", message, "spec.template.ports", "write ports: [{name: http}]"
                )
            else:
                check_port(route, ports_of(template), ("spec", "route", "port"), report)
    if is_mapping(template):
        _check_fixed_ports(template, spec, report)
    external = spec.get("external")
    if is_mapping(external):
        _check_external(external, spec, report)
    _check_update(spec, report)


def _check_route(route: Raw, spec: Raw, report: Report) -> None:
    hosts = route.get("hosts")
    seen: set[str] = set()
    for index, host in enumerate(hosts if isinstance(hosts, list) else ()):
        if isinstance(host, str) and host.lower() in seen:
            report.add(
                ("spec", "route", "hosts", index), "duplicate_name", f'host "{host}" is given twice', "each host once"
            )
        elif isinstance(host, str):
            seen.add(host.lower())
    if "?" in (text_of(route, "pathPrefix") or ""):
        message = "a path prefix has no query"
        report.add(("spec", "route", "pathPrefix"), "invalid_path", message, "a path without ?")
    if "external" in spec and "port" in route:
        message = "the ports of something external are those of its endpoints"
        report.add(("spec", "route", "port"), "one_of", message, "no port", at_key=True)


def _check_fixed_ports(template: Raw, spec: Raw, report: Report) -> None:
    """Two instances cannot open the same port of one machine, and with a surge the new one runs beside the old."""
    update = spec.get("update")
    rolling = update.get("rollingUpdate") if is_mapping(update) else None
    surge = rolling.get("maxSurge") if is_mapping(rolling) else None
    for index, port in mappings(template, "ports"):
        number = number_of(port, "number") or number_of(port, "containerPort")
        if number and (number_of(spec, "replicas") or 0) > 1:
            message = f"{spec['replicas']} instances on one machine cannot all open port {number}"
            at: Path = ("spec", "template", "ports", index)
            report.add(at, "fixed_port", message, "no number", "leave the number out and use ${PORT} in command or env")
        elif number and surge not in (None, 0, "0%"):
            message = f"with a surge the new instance would open port {number} beside the old one"
            at = ("spec", "update", "rollingUpdate", "maxSurge")
            report.add(at, "fixed_port", message, "maxSurge: 0", "leave the number of the port out")


def _check_external(external: Raw, spec: Raw, report: Report) -> None:
    at: Path = ("spec", "external")
    for name in ("replicas", "update"):
        if name in spec:
            message = f"{name} means nothing for something that runs elsewhere"
            report.add(("spec", name), "one_of", message, f"no {name}", at_key=True)
    seen: set[tuple[object, object]] = set()
    for index, endpoint in mappings(external, "endpoints"):
        address, port = endpoint.get("address"), endpoint.get("port")
        if isinstance(address, str) and isinstance(port, int):
            if (address, port) in seen:
                message = f"{address}:{port} is given twice"
                report.add((*at, "endpoints", index), "duplicate_name", message, "each endpoint once")
            seen.add((address, port))
    probe = external.get("readinessProbe")
    if is_mapping(probe):
        _check_probe(probe, "readinessProbe", (*at, "readinessProbe"), report)
        if "exec" in probe:
            message = "a command cannot be run in something that runs elsewhere"
            report.add((*at, "readinessProbe", "exec"), "one_of", message, "httpGet, tcpSocket or grpc", at_key=True)
        for action, body in actions_of(probe):
            if "port" in body:
                message = "the ports of something external are those of its endpoints"
                report.add((*at, "readinessProbe", action, "port"), "one_of", message, "no port", at_key=True)


def _check_update(spec: Raw, report: Report) -> None:
    update = spec.get("update")
    rolling = update.get("rollingUpdate") if is_mapping(update) else None
    if not is_mapping(rolling):
        return
    if rolling.get("maxSurge") in (0, "0%") and rolling.get("maxUnavailable", 0) in (0, "0%"):
        message = "with maxSurge 0 and maxUnavailable 0 nothing can be replaced"
        report.add(("spec", "update", "rollingUpdate"), "out_of_range", message, "at least one of them above 0")


def _check_job(spec: Raw, report: Report) -> None:
    template = spec.get("template")
    for name in ("readinessProbe", "livenessProbe", "smokeTest"):
        if is_mapping(template) and name in template:
            at = ("spec", "template", name)
            report.add(
                at, "one_of", f"{name} means nothing for a Job: it is done when it exits", f"no {name}", at_key=True
            )


def _check_dependencies(kind: str, raw: Raw, spec: Raw, report: Report) -> None:
    items = spec.get("dependsOn")
    seen: set[tuple[str, str]] = set()
    for index, item in enumerate(items if isinstance(items, list) else ()):
        named = {"name": item} if isinstance(item, str) else item
        name = text_of(named, "name") if is_mapping(named) else None
        if name is None or not is_mapping(named):
            continue
        key = (str(named.get("kind", "Service")), name)
        if key in seen:
            report.add(("spec", "dependsOn", index), "duplicate_name", f"{key[0]} {name} is given twice", "each once")
        seen.add(key)


# -- template --------------------------------------------------------------------------------------------------------


def check_template(template: Raw, at: Path, report: Report) -> None:
    command = template.get("command")
    if command == [] or (command is None and not is_misspelt(template, ("command",))):
        hint = "args alone are not a program" if "args" in template else ""
        report.add(at, "missing_field", "command is missing", "a list: the program and its arguments", hint)
    check_program(template, "command", at, report)
    _check_ports(template, at, report)
    _check_env(template, at, report)
    ports = ports_of(template)
    for name in _PROBES:
        probe = template.get(name)
        if is_mapping(probe):
            _check_probe(probe, name, (*at, name), report)
            for action, body in actions_of(probe):
                check_probe_port(action, body, ports, (*at, name, action), report)
    smoke = template.get("smokeTest")
    if is_mapping(smoke):
        exactly_one(smoke, ("httpGet", "exec"), (*at, "smokeTest"), report)
        for action, body in actions_of(smoke):
            check_probe_port(action, body, ports, (*at, "smokeTest", action), report)
            check_program(body, "command", (*at, "smokeTest", action), report)
    unique(template, "bootstrap", "step", at, report)
    for index, step in mappings(template, "bootstrap"):
        check_program(step, "command", (*at, "bootstrap", index), report)
    _check_directories(template, at, report)
    _check_path(template, "workingDir", at, report)


def check_program(owner: Raw, name: str, at: Path, report: Report) -> None:
    command = owner.get(name)
    if not isinstance(command, list) or not command or not isinstance(command[0], str):
        return
    program = command[0]
    if not program:
        report.add((*at, name, 0), "invalid_value", "the program's name is empty", "a program")
    elif len(command) == 1 and " " in program and not program.startswith("/"):
        parts = ", ".join(f'"{part}"' for part in program.split())
        report.add(
            (*at, name, 0), "invalid_value", "there is no shell", "one item for each word", f"write [{parts}]"[:200]
        )


def _check_path(owner: Raw, name: str, at: Path, report: Report) -> None:
    value = text_of(owner, name)
    if value and not is_placed(value):
        message = f'"{value[:200]}" is a relative path, and there is no directory to take it from'
        report.add((*at, name), "invalid_path", message, "an absolute path")
    elif value and "\0" in value:
        report.add((*at, name), "invalid_path", "the path has a NUL character", "a path")


def ports_of(template: Raw) -> list[tuple[str, int | None]] | None:
    """None: the ports are not right themselves, so nothing can be said of who names them."""
    items = template.get("ports", [])
    if not isinstance(items, list) or ("ports" not in template and is_misspelt(template, ("ports",))):
        return None
    found = []
    for item in items:
        name = text_of(item, "name") if is_mapping(item) else None
        if name is None:
            return None
        found.append((name, number_of(item, "number") or number_of(item, "containerPort")))
    return found


def _check_ports(template: Raw, at: Path, report: Report) -> None:
    unique(template, "ports", "port", at, report)
    numbers: set[int] = set()
    for index, port in mappings(template, "ports"):
        if "number" in port and "containerPort" in port:
            message = "number and containerPort are the same thing"
            report.add((*at, "ports", index, "containerPort"), "one_of", message, "one of them", at_key=True)
        number = number_of(port, "number") or number_of(port, "containerPort")
        if number in numbers:
            report.add(
                (*at, "ports", index), "duplicate_name", f"port number {number} is given twice", "each number once"
            )
        elif number is not None:
            numbers.add(number)


def check_port(owner: Raw, ports: list[tuple[str, int | None]] | None, at: Path, report: Report) -> None:
    asked = owner.get("port")
    if ports is None or asked is None or isinstance(asked, bool) or not isinstance(asked, str | int):
        return
    known = [name for name, _ in ports] + [str(number) for _, number in ports if number]
    if str(asked) not in known:
        names = ", ".join(name for name, _ in ports) or "none: the template has no ports"
        hint = did_you_mean(str(asked), known)
        report.add(at, "unknown_port", f"there is no port {str(asked)[:80]}", f"the name of a port ({names})", hint)


def check_probe_port(
    action: str, body: Raw, ports: list[tuple[str, int | None]] | None, at: Path, report: Report
) -> None:
    if action == "exec":
        return
    if ports == []:
        message = f"{action} needs a port, and the template has none"
        report.add(at, "missing_port", message, "ports", "write ports: [{name: http}], or use exec")
    else:
        check_port(body, ports, (*at, "port"), report)


def actions_of(probe: Raw) -> Iterator[tuple[str, Raw]]:
    for action in _ACTIONS:
        body = probe.get(action)
        if is_mapping(body):
            yield action, body


def _check_probe(probe: Raw, name: str, at: Path, report: Report) -> None:
    exactly_one(probe, _ACTIONS, at, report)
    for action, body in actions_of(probe):
        check_program(body, "command", (*at, action), report)
    if name != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        message = f"the successThreshold of a {name} is 1, as in Kubernetes"
        report.add((*at, "successThreshold"), "out_of_range", message, "1")
    http_get = probe.get("httpGet")
    scheme = text_of(http_get, "scheme") if is_mapping(http_get) else None
    if name == "readinessProbe" and scheme is not None and scheme.upper() == "HTTPS":
        message = "the gateway speaks plain HTTP to instances, so readiness over HTTPS would say nothing"
        report.add((*at, "httpGet", "scheme"), "invalid_value", message, "HTTP", "use livenessProbe or exec for HTTPS")


def _check_env(template: Raw, at: Path, report: Report) -> None:
    taken = _port_variables(template)
    for index, item in mappings(template, "env"):
        here: Path = (*at, "env", index)
        name = text_of(item, "name")
        if name is not None and name in taken:
            report.add((*here, "name"), "duplicate_name", f"{name} is already set {taken[name]}", "another name")
        elif name is not None:
            taken[name] = "in this list"
        source = item.get("valueFrom")
        if "value" in item and "valueFrom" in item:
            message = "valueFrom cannot stand beside value"
            report.add((*here, "valueFrom"), "one_of", message, "value or valueFrom", at_key=True)
        if is_mapping(source):
            exactly_one(source, ("file", "variable", "secretFile"), (*here, "valueFrom"), report)
            _check_path(source, "file", (*here, "valueFrom"), report)
            _check_path(source, "secretFile", (*here, "valueFrom"), report)
    for index, item in mappings(template, "dataDirectories"):
        variable = text_of(item, "env")
        if variable is not None and variable in taken:
            message = f"{variable} is already set {taken[variable]}"
            report.add((*at, "dataDirectories", index, "env"), "duplicate_name", message, "another name")
        elif variable is not None:
            taken[variable] = "by a data directory"


def _port_variables(template: Raw) -> dict[str, str]:
    """PORT and PORT_<NAME> are ours as soon as there is a port, and some names always."""
    taken = dict.fromkeys(_OURS, "by Spinyard")
    for _, port in mappings(template, "ports"):
        name = text_of(port, "name")
        if name is not None:
            taken.setdefault("PORT", f'by the first port, "{name}"')
            taken.setdefault(port_variable(name), f'by the port "{name}"')
    return taken


def port_variable(name: str) -> str:
    return "PORT_" + name.upper().replace("-", "_")


def _check_directories(template: Raw, at: Path, report: Report) -> None:
    unique(template, "dataDirectories", "directory", at, report)
    for index, item in mappings(template, "dataDirectories"):
        if item.get("retain") is True and item.get("scope", "spin") == "spin":
            message = "a directory of an instance goes with it, and cannot be retained"
            report.add((*at, "dataDirectories", index, "retain"), "one_of", message, "scope: service with retain: true")
