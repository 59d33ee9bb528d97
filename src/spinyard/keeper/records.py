"""What the keeper and its shims leave on disk, so that a new keeper finds everything again.

`<home>/run/instances/<name of key>/`
    start.json     by the keeper, before the fork: key, log name, grace, installation. No environment, no secret.
    identity.json  by the shim: boot id, pid and start time of shim and program.
    exit.json      made of blanks by the keeper before the fork, overwritten in place by the shim at the end: a full
                   disk cannot lose an exit. The shim holds a POSIX lock on it as long as it lives; the kernel names the
                   holder's pid, which is the proof that a shim is the one of this instance.
    remove         an empty mark: collect the record as soon as the instance has exited.
Nothing here is synced: after a power loss nothing runs, and a missing record then says the truth.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from typing import Any, Final, TypedDict, get_type_hints

EXIT_BYTES: Final = 4096
KEY_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@-/")
KEY_LENGTH_MAX: Final = 200


class Start(TypedDict):
    key: str
    log_name: str
    installation: str
    grace_seconds: float
    started_at: float
    supervised: str
    """name of the supervised program, or empty for an instance"""
    serial: int


class Identity(TypedDict):
    boot_id: str
    shim_pid: int
    shim_start: int
    pid: int
    pid_start: int


class Exit(TypedDict):
    exited_at: float
    exit_code: int | None
    exit_signal: int | None
    error_class: str
    error: str
    peak_memory_bytes: int
    cpu_seconds: float


def is_key(text: object) -> bool:
    return (
        isinstance(text, str)
        and 0 < len(text) <= KEY_LENGTH_MAX
        and KEY_CHARACTERS.issuperset(text)
        and all(part not in ("", ".", "..") for part in text.split("/"))
    )


def name_of(key: str) -> str:
    """One file name per key, and back: `~` is in no key."""
    return key.replace("/", "~")


def key_of(name: str) -> str:
    return name.replace("~", "/")


def write_json(path: str, value: Any) -> None:
    """Whole or not at all. The leftover of a failed write is removed: on a full disk it would take room."""
    temporary = path + ".tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(json.dumps(value).encode())
        os.rename(temporary, path)
    except OSError:
        _unlink(temporary)
        raise


def read_json(path: str) -> Any:
    """None when it is missing or not whole."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def read_record(path: str, kind: type) -> Any:
    """None when it is missing, not whole, or not of that kind (a TypedDict): a damaged home stops no keeper."""
    value = read_json(path)
    if not isinstance(value, dict):
        return None
    types = get_type_hints(kind)
    return value if all(name in value and isinstance(value[name], _plain(types[name])) for name in types) else None


def _plain(hint: Any) -> Any:
    return (int, float) if hint is float else hint


def reserve_exit(directory: str) -> None:
    fd = os.open(f"{directory}/exit.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b" " * EXIT_BYTES)
        # Some file systems find out only here that the disk is full, and blocks that exist can be overwritten later.
        os.ftruncate(fd, EXIT_BYTES)
    finally:
        os.close(fd)


def write_exit(fd: int, value: Exit) -> None:
    text = json.dumps(value).encode()
    if len(text) > EXIT_BYTES:
        text = json.dumps({**value, "error": value["error"][:200]}).encode()
    os.pwrite(fd, text.ljust(EXIT_BYTES), 0)


def read_exit(directory: str) -> Exit | None:
    value: Exit | None = read_record(f"{directory}/exit.json", Exit)
    return value


def lock_exit(directory: str) -> int | None:
    """The shim's hold on its instance, or None when somebody else has it or the instance was given up meanwhile."""
    try:
        fd = os.open(f"{directory}/exit.json", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if os.pread(fd, EXIT_BYTES, 0).strip():
        os.close(fd)
        return None
    return fd


def holder_of(directory: str) -> int:
    """The pid that holds the lock, said by the kernel; 0 for nobody."""
    try:
        fd = os.open(f"{directory}/exit.json", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        question = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, question))
        return 0 if kind == fcntl.F_UNLCK else int(pid)
    finally:
        os.close(fd)


def delete(directory: str) -> None:
    """The exit record goes last: what is left of a broken deletion is then still an exited instance."""
    for name in ("identity.json.tmp", "start.json.tmp", "identity.json", "remove", "start.json", "exit.json"):
        _unlink(f"{directory}/{name}")
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
