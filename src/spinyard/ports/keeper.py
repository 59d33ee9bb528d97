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


# Other ops (fields beside v, id, op), and what they answer. What changes something carries `epoch` (it may be left out
# where * stands): a lower one than the highest ever seen is refused with "StaleEpoch", a higher one is remembered.
#   hello                      version, pid, boot_id, started_at, epoch
#   claim_epoch  epoch         epoch, or error "StaleEpoch"
#   observe      key           instance: InstanceState | null; null is Absent, proved by the keeper
#   list                       instances: [InstanceState without log_tail], strays: [{pid, key}]
#   remove       key, now, keep  ok at once; running: SIGTERM, grace, SIGKILL of the whole tree, and collected once all
#                              of it is gone (keep: at the next remove, so that the exit can be read); exited: collected
#   run *        key, argv, env, cwd, timeout_seconds, memory_bytes, output_bytes, merge_env: at the end the fields of
#                              an exit, and output (both streams, the first bytes). merge_env: in environment and
#                              directory of the running instance `key`. Closing the connection ends the command, as does
#                              the end of that instance. `stream`: before that {output: started|stdout|stderr, data:
#                              base64} as it comes, and no output at the end; who does not read makes it wait
#   mkdir        key, name     path
#   rmdir        key           ok, goes on until `dirs` does not show it
#   dirs         [key]         dirs: [{key, path}]
#   logs         log_name      directory
#   supervise *  name, argv, env, cwd, restart, hot    ok (Envoy, the server): restarted when it dies. A changed argv
#                              replaces what runs; `hot`: starts beside it, and {restart_epoch} in argv is one more than
#                              the other's. Output: <home>/logs/<name>.log
#   supervised                 supervised: [{name, pid, started_at, restarts, running}]
#   unsupervise * name, signal, grace_seconds         ok, goes on until `supervised` does not show it; 9: at once
#   subscribe                  then a stream of {event: "exit"|"supervised", key|name}
#   capabilities               capabilities: {limit: {enforced, how}} in force on this machine (for doctor)
#   stop *       instances, keep_supervised            ok; the keeper ends after what it supervises (unless kept for the
#                              next keeper), and with `instances` after all of them
# SIGTERM ends the keeper alone: everything goes on and is found by the next one.
