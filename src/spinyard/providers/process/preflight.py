"""What can be said before anything is started: would this template run on this machine? Looks, and changes nothing."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spinyard.core.spec import Isolation, TemplateSpec

Status = Literal["ok", "warning", "failed"]

FREE_BYTES_MIN = 256 << 20


@dataclass(frozen=True, slots=True)
class Check:
    check: str
    status: Status
    message: str
    next_step: str = ""


def preflight(template: TemplateSpec, port_range: tuple[int, int], capabilities: Mapping[str, Any]) -> list[Check]:
    """`capabilities`: the keeper's own words on what it can enforce here."""
    checks = [_command(template, template.command, "command")]
    checks += [_command(template, step.command, f"bootstrap step {step.name}") for step in template.bootstrap]
    checks += list(_ports(template, port_range))
    checks += list(_limits(template, capabilities))
    checks += list(_files(template))
    return checks


def _command(template: TemplateSpec, command: tuple[str, ...], what: str) -> Check:
    program = command[0]
    if "${" in program:
        return Check(what, "warning", f"{program} is known only when it is started")
    directory = template.working_dir or os.getcwd()
    path = os.path.join(directory, program) if "/" in program else shutil.which(program)
    if path is None or not os.path.exists(path):
        return Check(what, "failed", f"{program} is not found", "install it, or give its whole path")
    if os.path.isdir(path) or not os.access(path, os.X_OK):
        return Check(what, "failed", f"{path} is not executable", f"chmod +x {path}, or name its interpreter first")
    return Check(what, "ok", path)


def _ports(template: TemplateSpec, port_range: tuple[int, int]) -> Iterator[Check]:
    for port in template.ports:
        if not port.number:
            yield Check(f"port {port.name}", "ok", f"a free one of {port_range[0]}-{port_range[1]}")
            continue
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port.number))
        except OSError as error:
            yield Check(
                f"port {port.name}",
                "warning",
                f"{port.number} cannot be had now: {error.strerror}",
                "leave the number out, and any free one is taken",
            )
        else:
            yield Check(f"port {port.name}", "ok", f"{port.number} is free")


def _limits(template: TemplateSpec, capabilities: Mapping[str, Any]) -> Iterator[Check]:
    def check(what: str, name: str, leave_out: str) -> Check:
        found: Mapping[str, Any] = capabilities.get(name) or {}
        enforced = bool(found.get("enforced"))
        return Check(what, "ok" if enforced else "failed", str(found.get("how") or "not enforceable here"), leave_out)

    if template.limits.cpu is not None:
        yield check("cpu limit", "cpu", "leave resources.limits.cpu out")
    if template.isolation is not Isolation.NONE:
        yield check("isolation", template.isolation.value, "leave isolation out")


def _files(template: TemplateSpec) -> Iterator[Check]:
    for variable in template.env:
        path = variable.secret_file or variable.from_file
        if path and not os.access(os.path.join(template.working_dir or ".", path), os.R_OK):
            yield Check(f"env {variable.name}", "failed", f"{path} cannot be read", "make the file, or mend its rights")
    if template.working_dir and not os.path.isdir(template.working_dir):
        yield Check("workingDir", "failed", f"{template.working_dir} is not a directory")


def machine_checks(home: Path, port_range: tuple[int, int]) -> list[Check]:
    place = home if home.exists() else home.parent
    free = shutil.disk_usage(place).free if place.exists() else 0
    low, high = port_range
    first, last = (int(word) for word in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    overlap = max(low, first) <= min(high, last)
    return [
        Check(
            "disk",
            "ok" if free > FREE_BYTES_MIN else "failed",
            f"{free >> 20} MiB free at {place}",
            "make room: without it no start can be recorded",
        ),
        Check(
            "ports",
            "warning" if overlap else "ok",
            f"{low}-{high}" + (f" overlaps the machine's own outgoing ports {first}-{last}" if overlap else ""),
            "give another --port-range",
        ),
    ]
