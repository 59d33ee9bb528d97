"""Reading requests: every field is checked here, so the rest may trust its types."""

from __future__ import annotations

import json
import os
from typing import Any, Final

from spinyard.keeper import isolation, launch, records
from spinyard.keeper.errors import KeeperError
from spinyard.keeper.supervise import Spec
from spinyard.ports.keeper import EnvEntry

ARGUMENTS_MAX: Final = 4096
ENV_MAX: Final = 1024
PORTS_MAX: Final = 256
LOG_BYTES_DEFAULT: Final = 10 << 20
LOG_BYTES_MAX: Final = 1 << 30
SOURCES: Final = ("value", "from_file", "from_variable", "secret_file")

Request = dict[str, Any]


def parse(line: bytes) -> Request:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as failed:
        raise KeeperError("InvalidRequest", f"not JSON: {failed}") from failed
    if not isinstance(request, dict):
        raise KeeperError("InvalidRequest", "a request is a JSON object")
    return request


def key_of(request: Request) -> str:
    return _named(request, "key")


def name_of(request: Request) -> str:
    name = _named(request, "name")
    if "/" in name:
        raise KeeperError("InvalidRequest", f"name: no slash is allowed in {name!r}")
    return name


def log_name_of(request: Request) -> str:
    return _named(request, "log_name")


def _named(request: Request, field: str) -> str:
    value = request.get(field)
    if not records.is_key(value):
        raise KeeperError(
            "InvalidRequest", f"{field}: letters, digits and ._:@-/ are allowed, at most 200: {value!r:.200}"
        )
    assert isinstance(value, str)
    return value


def number_of(request: Request, field: str, default: float | None, least: float = 0.0) -> float | None:
    value = request.get(field)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 1e15:
        raise KeeperError("InvalidRequest", f"{field}: a number of at least {least:g} was expected: {value!r:.200}")
    return float(value)


def whole_of(request: Request, field: str, least: int = 1) -> int | None:
    value = number_of(request, field, None, least)
    return None if value is None else int(value)


def flag_of(request: Request, field: str) -> bool:
    value = request.get(field, False)
    if not isinstance(value, bool):
        raise KeeperError("InvalidRequest", f"{field}: true or false was expected: {value!r:.200}")
    return value


def text_of(request: Request, field: str) -> str:
    value = request.get(field, "")
    if not isinstance(value, str) or "\0" in value:
        raise KeeperError("InvalidRequest", f"{field}: text was expected: {value!r:.200}")
    return value


def argv_of(request: Request) -> list[str]:
    argv = request.get("argv")
    if (
        not isinstance(argv, list)
        or not 0 < len(argv) <= ARGUMENTS_MAX
        or not all(isinstance(part, str) and "\0" not in part for part in argv)
        or not argv[0]
    ):
        raise KeeperError("InvalidRequest", "argv: a list of 1 to 4096 texts was expected, the first of them not empty")
    return argv


def env_of(request: Request) -> list[EnvEntry]:
    entries = request.get("env", [])
    if not isinstance(entries, list) or len(entries) > ENV_MAX:
        raise KeeperError("InvalidRequest", f"env: a list of at most {ENV_MAX} entries was expected")
    return [_entry_of(entry) for entry in entries]


def _entry_of(entry: Any) -> EnvEntry:
    """Values are never repeated in an error: they may be secret."""
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise KeeperError("InvalidRequest", "env: every entry is an object with a name")
    # Empty sources are what a client sends that fills in every field.
    sources = [source for source in SOURCES[1:] if entry.get(source)] or ["value"]
    if len(sources) > 1 or not all(isinstance(entry.get(source, ""), str) for source in SOURCES):
        raise KeeperError("InvalidRequest", f"env: {name} has more than one source, or one that is not text")
    checked: dict[str, str] = {"name": name, sources[0]: entry.get(sources[0], "")}
    return checked  # type: ignore[return-value]


def ports_of(request: Request) -> list[int]:
    ports = request.get("ports", [])
    if (
        not isinstance(ports, list)
        or len(ports) > PORTS_MAX
        or not all(isinstance(port, int) and 0 < port < 65536 for port in ports)
    ):
        raise KeeperError("InvalidRequest", "ports: a list of port numbers was expected")
    return ports


def command_of(request: Request, key: str, mark: str) -> launch.Command:
    name = text_of(request, "isolation") or "none"
    processes = whole_of(request, "processes")
    _refuse_what_cannot_be_had(request, name, processes)
    return launch.Command(
        key=key,
        mark=mark,
        argv=argv_of(request),
        env=env_of(request),
        cwd=text_of(request, "cwd"),
        open_files=whole_of(request, "open_files"),
        processes=processes,
        isolation=name,
    )


def _refuse_what_cannot_be_had(request: Request, name: str, processes: int | None) -> None:
    if refusal := isolation.refusal_of(name):
        raise KeeperError("CannotEnforce", refusal)
    if request.get("cpu") is not None:
        raise KeeperError("CannotEnforce", "a cpu limit needs a writable cgroup v2 with the cpu controller")
    if processes is not None and os.geteuid() == 0:
        raise KeeperError("CannotEnforce", "a limit of processes does not bind root (RLIMIT_NPROC)")


def spec_of(request: Request) -> Spec:
    return {
        "argv": argv_of(request),
        "env": env_of(request),
        "cwd": text_of(request, "cwd"),
        "restart": flag_of(request, "restart"),
        "hot": flag_of(request, "hot"),
    }
