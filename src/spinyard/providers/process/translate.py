"""What is wanted, in the keeper's words, and what the keeper says, in ours. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spinyard.core.ids import ResourceKey, owner_of
from spinyard.core.observed import ProcessFacts
from spinyard.core.spec import EnvVar
from spinyard.core.want import ProcessWant
from spinyard.ports.keeper import EnvEntry, InstanceState


def is_directory(key: ResourceKey) -> bool:
    """`<uid>/dir/<name>`; everything else is a process."""
    return key.split("/")[1:2] == ["dir"]


def start_fields(
    key: ResourceKey, want: ProcessWant, *, epoch: int, installation: str, paths: Mapping[str, str]
) -> dict[str, Any]:
    """A StartRequest without v, id and op. `paths`: of the directories that the want names, by key."""
    limits = want.limits
    return {
        "key": key,
        "epoch": epoch,
        "argv": list(want.argv),
        "env": environment(want, installation=installation, paths=paths),
        "cwd": want.working_dir,
        "ports": [number for _, number in want.ports],
        "directories": list(want.directories),
        "grace_seconds": want.grace_seconds,
        "timeout_seconds": want.timeout_seconds,
        "memory_bytes": limits.memory_bytes,
        "cpu": limits.cpu,
        "open_files": limits.open_files,
        "processes": limits.processes,
        "log_bytes": limits.log_bytes,
        "log_name": want.log_name or owner_of(key),
        "isolation": want.isolation.value,
    }


def environment(want: ProcessWant, *, installation: str, paths: Mapping[str, str]) -> list[EnvEntry]:
    """Directories first, so that other variables may take their value from them; the tag last: nothing overrides it."""
    entries: list[EnvEntry] = [{"name": name, "value": paths[key]} for name, key in want.directory_env]
    entries.extend(_entry(variable) for variable in want.env)
    entries.append({"name": "SPINYARD_INSTALLATION", "value": installation})
    return entries


def _entry(variable: EnvVar) -> EnvEntry:
    if variable.secret_file:
        return {"name": variable.name, "secret_file": variable.secret_file}
    if variable.from_file:
        return {"name": variable.name, "from_file": variable.from_file}
    if variable.from_variable:
        return {"name": variable.name, "from_variable": variable.from_variable}
    return {"name": variable.name, "value": variable.value}


def process_facts(state: InstanceState) -> ProcessFacts:
    return ProcessFacts(
        running=state["state"] == "running",
        pid=state["pid"],
        started_at=state["started_at"],
        exited_at=state["exited_at"],
        exit_code=state["exit_code"],
        exit_signal=state["exit_signal"],
        error_class=state["error_class"],
        error=state["error"],
        peak_memory_bytes=state["peak_memory_bytes"],
        cpu_seconds=state["cpu_seconds"],
        log_tail=state.get("log_tail", ""),
    )
