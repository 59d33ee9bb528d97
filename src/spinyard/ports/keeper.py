"""The keeper's protocol, versioned from 0.1.0: JSON lines over a unix socket, `<home>/run/keeper.sock` (0600).

Every request carries `v` (the client's protocol version), `id` (echoed) and `op`; every answer `id`, `ok` and either
the result's fields or `error` {error_class, message, retryable}. A newer server drives an older keeper: fields unknown
to the keeper are ignored, ops unknown to it are answered with error_class "UnknownOperation". Types here are imported
by the keeper (which imports nothing heavier than the standard library) and by the process provider.
"""

from __future__ import annotations

from typing import Final, Literal, NotRequired, TypedDict

PROTOCOL_VERSION: Final = 1


class EnvEntry(TypedDict, total=False):
    """Exactly one of value, from_file, from_variable, secret_file beside the name. Files are read in the shim."""

    name: str
    value: str
    from_file: str
    from_variable: str
    secret_file: str


class StartRequest(TypedDict):
    """op "start". The same key again while it exists (running or exited and not collected): ok, nothing happens."""

    v: int
    id: int
    op: Literal["start"]
    key: str
    epoch: int
    argv: list[str]
    env: list[EnvEntry]
    cwd: str
    ports: list[int]
    """checked to be free (bind without SO_REUSEPORT) before the start, else PortUnavailable"""
    directories: list[str]
    grace_seconds: float
    timeout_seconds: float | None
    memory_bytes: int | None
    cpu: float | None
    open_files: int | None
    processes: int | None
    log_bytes: int
    log_name: str
    isolation: str
    merge_env: NotRequired[bool]


class InstanceState(TypedDict):
    """An answer of "observe" (one) and "list" (many). `state`: running | exited."""

    key: str
    state: Literal["running", "exited"]
    pid: int
    started_at: float
    exited_at: float | None
    exit_code: int | None
    exit_signal: int | None
    error_class: str
    error: str
    peak_memory_bytes: int
    cpu_seconds: float
    log_tail: NotRequired[str]


# Other ops (fields beside v, id, op), and what they answer:
#   hello                      version, pid, boot_id, started_at, epoch
#   claim_epoch  epoch         ok, or error "StaleEpoch" when a higher one was seen; all changing ops carry epoch
#   observe      key           instance: InstanceState | null; null is Absent, proved by the keeper
#   list                       instances: [InstanceState], strays: [{pid, key}]
#   remove       key, now      ok at once; running: SIGTERM, grace, SIGKILL of the whole tree; exited: collected
#   run          like start, + output_bytes; waits for the end: exit_code, exit_signal, output (both streams, bounded)
#   mkdir        key, name     path
#   rmdir        key           ok
#   dirs                       [{key, path}]
#   logs         log_name      directory
#   supervise    name, argv, env, cwd, restart, hot    ok (Envoy, the server): restarted when it dies
#   supervised                 [{name, pid, started_at, restarts, running}]
#   unsupervise  name, signal, grace_seconds           ok
#   subscribe                  then a stream of {event: "exit"|"supervised", key|name}
#   capabilities               what isolation and limits are in force on this machine (for doctor)
#   stop         instances     the keeper ends; with instances, after all of them ended
